//! Splits a list's JSON while it arrives, so that at most one of its objects is in memory as text.

use memchr::memchr2;

/// The longest object that is accepted; API servers accept no more than 3 MiB.
const LONGEST: usize = 32 << 20;

/// The position of a scan in a JSON text.
#[derive(Debug, Default)]
struct Cursor {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Cursor {
    /// Takes bytes up to the end of the text that it is in, at depth 0. Returns their number, and whether the end is
    /// among them.
    fn run(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        while let Some((byte, rest)) = bytes.get(taken..).and_then(<[u8]>::split_first) {
            // Most bytes are in strings: skip to what may end one.
            if self.in_string && !self.escaped && !matches!(byte, b'"' | b'\\') {
                taken += 1 + memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                continue;
            }
            self.step(*byte);
            taken += 1;
            if self.depth == 0 {
                return (taken, true);
            }
        }
        (taken, false)
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// Takes the bytes of a list and has its objects read, one by one.
///
/// Most objects are in one piece of the text and are read where they are. For the others it only finds the end; the
/// decoders of the object and of the [envelope](Splitter::finish) check that these are JSON.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// In the envelope.
    outer: Cursor,
    /// In an object.
    inner: Cursor,
    in_items: bool,
    /// The list without its objects.
    envelope: Vec<u8>,
    object: Vec<u8>,
}

impl Splitter {
    /// Takes more of the text. `read` reads an object at the start of a text, and returns its length; none if it has no
    /// end there.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        mut read: impl FnMut(&[u8]) -> Result<Option<usize>, String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.inner.depth == 0 {
                let taken = self.between(bytes)?;
                bytes = bytes.get(taken..).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                if let Some(length) = read(bytes)? {
                    bytes = bytes.get(length..).unwrap_or_default();
                    continue;
                }
            }
            let (taken, complete) = self.object(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.object.len() > LONGEST {
                return Err(format!("more than {LONGEST} bytes without an end"));
            }
            if complete {
                if read(&self.object)? != Some(self.object.len()) {
                    return Err("an object that ends before its last bracket".to_owned());
                }
                self.object.clear();
            }
        }
        Ok(())
    }

    /// The list without its objects, once it is complete.
    pub(super) fn finish(self) -> Result<Vec<u8>, String> {
        let whole = self.outer.depth == 0 && !self.in_items && !self.envelope.is_empty();
        if whole { Ok(self.envelope) } else { Err("the list is cut off".to_owned()) }
    }

    /// Takes bytes of an object. Returns their number, and whether the object is complete.
    fn object(&mut self, bytes: &[u8]) -> (usize, bool) {
        let (taken, complete) = self.inner.run(bytes);
        self.object.extend_from_slice(bytes.get(..taken).unwrap_or(bytes));
        (taken, complete)
    }

    /// Takes bytes of the envelope up to an object. Returns their number.
    fn between(&mut self, bytes: &[u8]) -> Result<usize, String> {
        for (index, byte) in bytes.iter().enumerate() {
            if !self.in_items {
                let begins = *byte == b'[' && self.outer.depth == 1 && !self.outer.in_string && self.is_after_key();
                self.outer.step(*byte);
                self.envelope.push(*byte);
                if self.envelope.len() > LONGEST {
                    return Err(format!("more than {LONGEST} bytes without an end"));
                }
                self.in_items = begins;
                continue;
            }
            match byte {
                b'{' => return Ok(index),
                b']' => {
                    self.outer.step(*byte);
                    self.envelope.push(*byte);
                    self.in_items = false;
                }
                b',' => {}
                space if space.is_ascii_whitespace() => {}
                other => return Err(format!("{:?} where an object begins", char::from(*other))),
            }
        }
        Ok(bytes.len())
    }

    /// Whether the envelope so far ends with `"items":`.
    fn is_after_key(&self) -> bool {
        let before = self.envelope.trim_ascii_end().strip_suffix(b":");
        before.is_some_and(|before| before.trim_ascii_end().ends_with(b"\"items\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, chunk: usize) -> Result<(Vec<String>, String), String> {
        let mut splitter = Splitter::default();
        let mut objects = Vec::new();
        for bytes in text.as_bytes().chunks(chunk) {
            splitter.push(bytes, |text| {
                let mut values = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
                match values.next() {
                    Some(Ok(_)) => {
                        let length = values.byte_offset();
                        objects.push(String::from_utf8(text[..length].to_vec()).unwrap());
                        Ok(Some(length))
                    }
                    Some(Err(error)) if !error.is_eof() => Err(error.to_string()),
                    _ => Ok(None),
                }
            })?;
        }
        Ok((objects, String::from_utf8(splitter.finish()?).unwrap()))
    }

    #[test]
    fn objects_are_found_in_chunks_of_any_size() {
        let objects = [r#"{"a":"}]\"{[\\"}"#, r#"{"items":[{"b":{}}],"c":[1,2]}"#, "{}"];
        let text = format!(
            "{{\"kind\":\"x \\\"items\\\":[\", \"metadata\" : {{\"items\":[7]}},\n\"items\" : [ {} ,{},\n{}] ,\"z\":[[]]}}\n",
            objects[0], objects[1], objects[2]
        );
        for chunk in 1..=text.len() {
            let (found, envelope) = split(&text, chunk).unwrap();
            assert_eq!(found, objects, "in chunks of {chunk}");
            let envelope: serde_json::Value = serde_json::from_str(&envelope).unwrap();
            assert_eq!(envelope["items"], serde_json::json!([]));
            assert_eq!(envelope["metadata"]["items"], serde_json::json!([7]));
        }
    }

    #[test]
    fn a_list_without_objects_is_an_envelope() {
        for text in [r#"{"items":[]}"#, r#"{"items":null,"metadata":{}}"#, r#"{"kind":"Status"}"#] {
            assert_eq!(split(text, 3).unwrap(), (vec![], text.to_owned()));
        }
    }

    #[test]
    fn a_truncated_list_is_an_error() {
        let text = r#"{"items":[{"a":1},{"b":2}]}"#;
        for end in 0..text.len() {
            assert!(split(&text[..end], 4).is_err(), "{}", &text[..end]);
        }
        assert!(split(r#"{"items":[{},null]}"#, 4).is_err());
        // Brackets that do not match.
        assert!(split(r#"{"items":[{"a":[}}]}"#, 4).is_err());
    }

    #[test]
    fn an_endless_object_is_an_error() {
        let mut splitter = Splitter::default();
        splitter.push(br#"{"items":[{"a":""#, |_| Ok(None)).unwrap();
        let megabyte = vec![b'x'; 1 << 20];
        let taken = (0..64).take_while(|_| splitter.push(&megabyte, |_| Ok(None)).is_ok()).count();
        assert_eq!(taken, (LONGEST >> 20) - 1, "bytes of one object, in MiB");
    }
}
