//! Reads messages. Truncated or malformed ones end the iteration.

/// A message read from the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// `nlmsg_flags`.
    pub(crate) flags: u16,
    /// `nlmsg_seq`.
    pub(crate) sequence: u32,
    /// `nlmsg_pid`: the socket whose request this answers.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

impl<'a> Message<'a> {
    /// Whether the messages of a datagram are complete.
    pub(crate) fn are_whole(mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let length = bytes.first_chunk().and_then(|length| usize::try_from(u32::from_ne_bytes(*length)).ok());
            let Some(length) = length.filter(|length| (HEADER..=bytes.len()).contains(length)) else { return false };
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        true
    }

    /// The messages of a datagram.
    pub(crate) fn all(mut bytes: &'a [u8]) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
            let message = bytes.get(..length)?;
            let (header, body) = message.split_at_checked(HEADER)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some(Self {
                kind: u16::from_ne_bytes(*header.get(4..)?.first_chunk()?),
                flags: u16::from_ne_bytes(*header.get(6..)?.first_chunk()?),
                sequence: u32::from_ne_bytes(*header.get(8..)?.first_chunk()?),
                port: u32::from_ne_bytes(*header.get(12..)?.first_chunk()?),
                body,
            })
        })
    }
}

/// A run of attributes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// The bits of an attribute's type that are flags: nested, network byte order.
const TYPE_MASK: u16 = 0x3fff;

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The attributes after a fixed header of `header` bytes.
    pub(crate) fn after(body: &'a [u8], header: usize) -> Self {
        Self(body.get(header..).unwrap_or_default())
    }

    /// Each attribute's type and value.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
            let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind & TYPE_MASK, value))
        })
    }

    /// The value of the first attribute of a kind.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// A nested attribute; empty if it is missing.
    pub(crate) fn nest(self, kind: u16) -> Self {
        Self(self.get(kind).unwrap_or_default())
    }

    /// A string without its NUL.
    pub(crate) fn string(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(value.get(..end)?).ok()
    }

    /// A number in network byte order.
    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A number in network byte order.
    pub(crate) fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A number in the host's byte order.
    pub(crate) fn ne32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }
}
