// Command yaml reads manifests as kubectl does, for a test that compares
// Palisade's reader with kubectl's.
//
// Standard input is a sequence of files, each after its length in bytes as a line
// of text. For each file one line of JSON is printed: the documents up to the
// first that kubectl refuses, and that error. Documents that kubectl skips (empty,
// or null) are left out.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/json"
	strictyaml "sigs.k8s.io/yaml"
)

// lookahead is kubectl's: the bytes in which it looks for the brace of a JSON file.
const lookahead = 4096

// result is kubectl's reading of a file.
type result struct {
	Documents []any `json:"documents"`
	// Error is empty if the whole file was read.
	Error string `json:"error"`
	// Repeated says that a strict reader refuses the file because a key occurs twice.
	Repeated bool `json:"repeated"`
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	if err := answer(in, out); err != nil {
		fmt.Fprintln(os.Stderr, "yaml:", err)
		os.Exit(1)
	}
}

func answer(in *bufio.Reader, out *bufio.Writer) error {
	for {
		length, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && length == "" {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		size, err := strconv.Atoi(strings.TrimSpace(length))
		if err != nil {
			return err
		}
		file := make([]byte, size)
		if _, err := io.ReadFull(in, file); err != nil {
			return err
		}
		line, err := json.Marshal(read(file))
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
}

// read follows StreamVisitor and FileVisitor of k8s.io/cli-runtime/pkg/resource.
func read(file []byte) (found result) {
	found.Documents = []any{}
	// The YAML parser indexes its buffer unchecked in corner cases.
	defer func() {
		if panicked := recover(); panicked != nil {
			found.Error = fmt.Sprint("panic: ", panicked)
		}
	}()
	file = bytes.TrimPrefix(file, []byte("\ufeff"))
	found.Repeated = repeats(file)
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(file), lookahead)
	for {
		extension := runtime.RawExtension{}
		if err := decoder.Decode(&extension); err != nil {
			if !errors.Is(err, io.EOF) {
				found.Error = err.Error()
			}
			return found
		}
		raw := bytes.TrimSpace(extension.Raw)
		if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
			continue
		}
		var document any
		if err := strict.UnmarshalCaseSensitivePreserveInts(raw, &document); err != nil {
			found.Error = err.Error()
			return found
		}
		if duplicates, _ := strict.UnmarshalStrict(raw, &document); len(duplicates) > 0 {
			found.Repeated = true
		}
		found.Documents = append(found.Documents, document)
	}
}

// repeats reports whether only the strict parser refuses a YAML document of the file.
func repeats(file []byte) bool {
	if yaml.IsJSONBuffer(file) {
		// After white space, or a first JSON value, there may be YAML.
		file = bytes.TrimLeftFunc(file, unicode.IsSpace)
		first := json.NewDecoder(bytes.NewReader(file))
		if err := first.Decode(&json.RawMessage{}); err == nil {
			file = file[first.InputOffset():]
		}
	}
	for reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file))); ; {
		document, err := reader.Read()
		if err != nil {
			return false
		}
		_, lenient := strictyaml.YAMLToJSON(document)
		_, exact := strictyaml.YAMLToJSONStrict(document)
		if lenient == nil && exact != nil {
			return true
		}
	}
}
