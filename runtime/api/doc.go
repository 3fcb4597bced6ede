// Package api is the native API of minid: minid.proto and the Go code made of it. Nothing here is written by hand but
// the .proto file; the server is in runtime/server, the client in runtime/client.
package api

//go:generate go run github.com/minirt/mini/tools/protogen . minid.proto archives.proto
