package logs

import (
	"encoding/json"
	"time"
	"unicode/utf8"
)

// stampLayout is RFC 3339 with all nine digits, so that the lines of a file align and sort as text.
const stampLayout = "2006-01-02T15:04:05.000000000Z07:00"

// format appends entries to a buffer. The stamp is made once for all lines of a chunk.
type format interface {
	// line appends one entry; full adds the newline that content does not have.
	line(to, content []byte, full bool) []byte
	// stamp sets the time of the entries that follow.
	stamp(time.Time)
	// whole is the length of content that may be cut off as a part of a line.
	whole(content []byte) int
}

func newFormat(driver, stream string, attrs map[string]string) format {
	if driver == DriverCRI {
		return &criFormat{stream: stream}
	}
	f := &jsonFormat{stream: stream}
	if len(attrs) > 0 {
		f.attrs, _ = json.Marshal(attrs) // strings only
	}
	return f
}

type criFormat struct {
	stream string
	head   []byte // "time stream "
}

func (f *criFormat) stamp(t time.Time) {
	f.head = t.UTC().AppendFormat(f.head[:0], stampLayout)
	f.head = append(f.head, ' ')
	f.head = append(f.head, f.stream...)
	f.head = append(f.head, ' ')
}

func (f *criFormat) line(to, content []byte, full bool) []byte {
	to = append(to, f.head...)
	if full {
		to = append(to, "F "...)
	} else {
		to = append(to, "P "...)
	}
	to = append(to, content...)
	return append(to, '\n')
}

func (f *criFormat) whole(content []byte) int { return len(content) }

type jsonFormat struct {
	stream string
	attrs  []byte // an object of JSON, or none
	tail   []byte // all after the line's text
}

func (f *jsonFormat) stamp(t time.Time) {
	f.tail = append(f.tail[:0], `","stream":"`...)
	f.tail = append(f.tail, f.stream...)
	f.tail = append(f.tail, '"')
	if len(f.attrs) > 0 {
		f.tail = append(f.tail, `,"attrs":`...)
		f.tail = append(f.tail, f.attrs...)
	}
	f.tail = append(f.tail, `,"time":"`...)
	f.tail = t.UTC().AppendFormat(f.tail, time.RFC3339Nano)
	f.tail = append(f.tail, "\"}\n"...)
}

func (f *jsonFormat) line(to, content []byte, full bool) []byte {
	to = append(to, `{"log":"`...)
	to = appendEscaped(to, content)
	if full {
		to = append(to, `\n`...)
	}
	return append(to, f.tail...)
}

// whole keeps a character that is cut in two for the next part: in JSON its halves would be lost.
func (f *jsonFormat) whole(content []byte) int {
	for i := len(content) - 1; i >= 0 && i >= len(content)-utf8.UTFMax; i-- {
		if utf8.RuneStart(content[i]) {
			if !utf8.FullRune(content[i:]) && i > 0 {
				return i
			}
			break
		}
	}
	return len(content)
}

// appendEscaped appends the inside of a JSON string (RFC 8259 section 7). Bytes that are not UTF-8 become U+FFFD, as
// they do in Docker's.
func appendEscaped(to, s []byte) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRune(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		to = append(to, s[from:i]...)
		switch {
		case c >= utf8.RuneSelf:
			to = append(to, `\ufffd`...)
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c == '\n':
			to = append(to, `\n`...)
		case c == '\r':
			to = append(to, `\r`...)
		case c == '\t':
			to = append(to, `\t`...)
		default:
			to = append(to, `\u00`...)
			to = append(to, hex[c>>4], hex[c&15])
		}
		i += size
		from = i
	}
	return append(to, s[from:]...)
}

// jsonLine is what Docker reads and writes.
type jsonLine struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"`
	Attrs  map[string]string `json:"attrs"`
	Time   time.Time         `json:"time"`
}

// parseJSON reads a line of a json-file log, with or without its newline, into e.
func parseJSON(line []byte, e *Entry) bool {
	var l jsonLine
	if json.Unmarshal(line, &l) != nil || l.Stream == "" || l.Time.IsZero() {
		return false
	}
	n := len(l.Log)
	*e = Entry{Time: l.Time, Stream: l.Stream, Data: []byte(l.Log), Partial: n == 0 || l.Log[n-1] != '\n', Attrs: l.Attrs}
	return true
}
