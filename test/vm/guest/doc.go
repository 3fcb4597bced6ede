// Package guest has the tests that run inside the virtual machine of test/vm. Elsewhere they are not run at all.
package guest
