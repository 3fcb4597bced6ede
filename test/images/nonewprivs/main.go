// Command nonewprivs says which user it is in effect. In its image the file belongs to root and is setuid, so that the
// answer tells whether a container may gain privileges.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Printf("Effective uid: %d\n", os.Geteuid())
}
