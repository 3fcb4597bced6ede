package image

import "strings"

// words takes a line apart at its blanks, as a shell does: quotes keep them, and a backslash what follows it. The quotes
// stay for expand, unless the words are to be whole.
func (x *changer) words(text string, whole bool) ([]string, error) {
	var out []string
	var word strings.Builder
	in := false
	end := func() error {
		if !in {
			return nil
		}
		w := word.String()
		if whole {
			expanded, err := x.expand(w)
			if err != nil {
				return err
			}
			w = expanded
		}
		out = append(out, w)
		word.Reset()
		in = false
		return nil
	}
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t'):
			if err := end(); err != nil {
				return nil, err
			}
			continue
		case c == '\\' && quote != '\'' && i+1 < len(text):
			word.WriteByte(c)
			i++
			c = text[i]
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		}
		in = true
		word.WriteByte(c)
	}
	if quote != 0 {
		return nil, refuse("a quote %c has no end", quote)
	}
	return out, end()
}

// expand takes the quotes away and puts the environment's values in the place of $NAME, ${NAME}, ${NAME:-default} and
// ${NAME:+instead}. Single quotes keep all as it is.
func (x *changer) expand(text string) (string, error) {
	out, rest, err := x.expandTo(text, 0, 0)
	if err == nil && rest != "" {
		err = refuse("%q: a brace too many", text)
	}
	return out, err
}

// maxBraces bounds how deep ${…} are in each other.
const maxBraces = 20

// expandTo expands up to a closing brace when it is inside of one.
func (x *changer) expandTo(text string, until byte, depth int) (out, rest string, err error) {
	if depth > maxBraces {
		return "", "", refuse("variables are more than %d deep in each other", maxBraces)
	}
	var b strings.Builder
	var quote byte
	for i := 0; i < len(text); i++ {
		if b.Len() > maxInstruction {
			return "", "", refuse("it becomes longer than %d bytes", maxInstruction)
		}
		c := text[i]
		switch {
		case quote == '\'' && c != '\'':
			b.WriteByte(c)
		case c == '\\' && i+1 < len(text):
			i++
			if next := text[i]; quote == '"' && next != '"' && next != '$' && next != '\\' {
				b.WriteByte(c)
			}
			b.WriteByte(text[i])
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && until != 0 && c == until:
			return b.String(), text[i+1:], nil
		case c == '$':
			value, after, err := x.variable(text[i+1:], depth)
			if err != nil {
				return "", "", err
			}
			b.WriteString(value)
			i = len(text) - len(after) - 1
		default:
			b.WriteByte(c)
		}
	}
	if until != 0 {
		return "", "", refuse("a brace has no end")
	}
	if quote != 0 {
		return "", "", refuse("a quote %c has no end", quote)
	}
	return b.String(), "", nil
}

// variable reads what stands after a $.
func (x *changer) variable(text string, depth int) (value, rest string, err error) {
	braced := strings.HasPrefix(text, "{")
	if braced {
		text = text[1:]
	}
	n := 0
	for n < len(text) && (text[n] == '_' || text[n] >= 'a' && text[n] <= 'z' || text[n] >= 'A' && text[n] <= 'Z' || n > 0 && text[n] >= '0' && text[n] <= '9') {
		n++
	}
	name, rest := text[:n], text[n:]
	switch {
	case !braced && name == "":
		return "$", text, nil
	case name == "":
		return "", "", refuse("a variable has no name: ${%s", text)
	}
	has, set := x.env(name)
	switch {
	case !braced:
		return has, rest, nil
	case strings.HasPrefix(rest, "}"):
		return has, rest[1:], nil
	case !strings.HasPrefix(rest, ":-") && !strings.HasPrefix(rest, ":+"):
		return "", "", refuse("${%s: after the name comes }, :- or :+", text)
	}
	instead := rest[1] == '+'
	other, rest, err := x.expandTo(rest[2:], '}', depth+1)
	if err != nil {
		return "", "", err
	}
	if (set && has != "") != instead {
		if instead {
			return "", rest, nil
		}
		return has, rest, nil
	}
	return other, rest, nil
}

func (x *changer) env(name string) (string, bool) {
	for _, kv := range x.c.Env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}
