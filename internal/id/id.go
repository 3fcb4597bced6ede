// Package id makes the identifiers of containers and pods, and the names given to those that come without one.
package id

import (
	"crypto/rand"
	"encoding/hex"
	"math/big"
)

// New is a random identifier: 32 bytes as 64 lower-case hexadecimal characters.
func New() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// ShortLen is the length in characters of a shortened identifier.
const ShortLen = 12

// Short is how an identifier is shown: its first 12 characters, or all of a shorter one.
func Short(id string) string {
	if len(id) <= ShortLen {
		return id
	}
	return id[:ShortLen]
}

// Name is a random name of the form adjective_surname. It is not unique: the caller tries again when it is taken.
func Name() string { return pick(adjectives()) + "_" + pick(surnames()) }

func pick(words []string) string {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
	if err != nil { // rand.Reader does not fail, and a list is never empty
		panic(err)
	}
	return words[n.Int64()]
}
