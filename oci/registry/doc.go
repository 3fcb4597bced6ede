// Package registry is a client of the OCI distribution protocol: it resolves,
// fetches, lists and pushes, through the mirrors of containerd's hosts.toml
// and with the credentials of Docker's config.json.
//
// What lives here: which hosts are asked and in which order (hosts.go,
// hostsfile.go), how they are reached (transport.go), who we are (auth.go,
// token.go, credentials.go), when to try again (retry.go), and one file per
// thing that can be asked for. What does not: storing content, knowing what a
// manifest means, deciding which platform is wanted.
//
// An error names the stage and the object. Once a host was asked it is an
// *Error, with what each host that was tried answered. Its class is one of errdefs'
// ErrNotFound, ErrUnauthenticated, ErrPermissionDenied, ErrUnavailable,
// ErrDataLoss, ErrResourceExhausted (rate limits) or ErrInvalidArgument.
package registry
