// Package scenario has the tests that need root and a running daemon: each starts a minid of its own, uses it through
// minictr as a person would, and ends with nothing left over. What one package can test by itself is tested there.
package scenario
