//go:build !amd64

package spec

// missingArches knows nothing of other machines: all of the profile's architectures stay.
func missingArches(bool) []string { return nil }
