package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// AuthFile is the file with the credentials that pods of a Kubernetes namespace have for an image: NAMESPACE-HASH.json with
// the SHA-256 of the image's name as the client gives it, else NAMESPACE.json; empty: there is none.
func (s *Settings) AuthFile(namespace, image string) string {
	if s.NamespacedAuth == "" || namespace == "" || strings.ContainsAny(namespace, "/\x00") {
		return ""
	}
	sum := sha256.Sum256([]byte(image))
	for _, name := range []string{namespace + "-" + hex.EncodeToString(sum[:]) + ".json", namespace + ".json"} {
		path := filepath.Join(s.NamespacedAuth, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
