package party

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// scan calls each for every line, and returns where the last whole group of lines ends. An unreadable
// line is an error, unless it is the last one: that one was torn.
func scan(r io.Reader, each Replay) (end int64, err error) {
	type held struct {
		place int64
		line  []byte
	}
	in := bufio.NewReaderSize(r, maxLine)
	var group []held // lines of a group whose last one has not come yet
	var bad error
	for place := int64(0); ; {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return end, nil // what is left has no end of line: torn, like a bad line right before it
		case errors.Is(err, bufio.ErrBufferFull):
			return end, fmt.Errorf("the line at byte %d is longer than %d bytes", place, maxLine)
		case err != nil:
			return end, err
		case bad != nil:
			return end, bad
		}
		start, text := place, line[:len(line)-1]
		place += int64(len(line))
		if bytes.HasSuffix(text, []byte(moreSuffix)) {
			group = append(group, held{start, bytes.Clone(text)})
			continue
		}
		for _, h := range group {
			if err := each(h.place, h.line); err != nil {
				return end, fmt.Errorf("the line at byte %d: %w", h.place, err)
			}
		}
		group = group[:0]
		if err := each(start, text); err != nil {
			bad = fmt.Errorf("the line at byte %d: %w", start, err)
			if json.Valid(text) {
				return end, bad // no crash has done that
			}
			continue
		}
		end = place
	}
}

func isEntry(line []byte) bool { return bytes.HasPrefix(line, []byte(entryPrefix)) }

// number returns the number of an entry, 0 if it cannot be read.
func number(line []byte) int64 {
	digits, _, _ := bytes.Cut(line[len(entryPrefix):], []byte(","))
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Field returns the text of a member of a line's object, "" if it has none. It does not parse, so that a
// long ledger is replayed quickly: inside of a JSON string no quote stands without its backslash, so
// the member's name in quotes, and a colon, is found nowhere else. Members of members count as well.
func Field(line []byte, name string) string {
	var buf [32]byte
	pattern := append(append(append(buf[:0], '"'), name...), '"', ':', '"')
	_, rest, ok := bytes.Cut(line, pattern)
	if !ok {
		return ""
	}
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '"':
			return string(rest[:i])
		case '\\':
			return unescaped(rest)
		}
	}
	return ""
}

// unescaped returns the JSON string that begins before rest.
func unescaped(rest []byte) string {
	var s string
	d := json.NewDecoder(io.MultiReader(bytes.NewReader([]byte{'"'}), bytes.NewReader(rest)))
	if d.Decode(&s) != nil {
		return ""
	}
	return s
}
