// Package api is the native API of minid: minid.proto, a file for each of some services, and the
// Go code made of them. Nothing here is written by hand but
// the .proto files; the server is in runtime/server, the client in runtime/client.
package api

//go:generate go run github.com/minirt/mini/tools/protogen . minid.proto archives.proto volumes.proto
