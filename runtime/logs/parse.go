package logs

import (
	"bytes"
	"time"
)

// parser reads one line of a log, its newline included, into e; false means that the line is damaged.
type parser func(line []byte, e *Entry) bool

// newParser is a driver's, or one that looks at each line when the driver is not known.
func newParser(driver string) (parser, error) {
	switch driver {
	case DriverJSON:
		return parseJSON, nil
	case DriverCRI:
		return parseCRI, nil
	case "":
		return parseAny, nil
	}
	return nil, checkDriver(driver)
}

func parseAny(line []byte, e *Entry) bool {
	if len(line) > 0 && line[0] == '{' {
		return parseJSON(line, e)
	}
	return parseCRI(line, e)
}

// parseCRI reads "time stream tags text". Tags are separated by ':', the first is P or F, and the others are for the
// future.
func parseCRI(line []byte, e *Entry) bool {
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return false
	}
	stream, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return false
	}
	name, ok := streamName(stream)
	if !ok {
		return false
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return false
	}
	tags, text, ok := bytes.Cut(rest, []byte{' '})
	if !ok { // some writers leave the space out when the line is empty
		tags, text = bytes.TrimSuffix(rest, []byte{'\n'}), rest[len(bytes.TrimSuffix(rest, []byte{'\n'})):]
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	switch string(tag) {
	case "F":
		*e = Entry{Time: t, Stream: name, Data: text}
	case "P":
		*e = Entry{Time: t, Stream: name, Data: bytes.TrimSuffix(text, []byte{'\n'}), Partial: true}
	default:
		return false
	}
	return true
}

// streamName spares an allocation per line.
func streamName(b []byte) (string, bool) {
	switch string(b) {
	case "stdout":
		return "stdout", true
	case "stderr":
		return "stderr", true
	}
	return "", false
}
