//go:build tools

// Package conformance pins upstream's CRI suite and its client: "make conformance-tools" builds critest (a test binary of
// a package that has nothing but tests, and so cannot be a tool of go.mod), crictl, and ginkgo, which critest calls to run
// specs in parallel. It is a module of its own so that none of their dependencies reach the project's.
package conformance

import (
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
