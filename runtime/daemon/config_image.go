package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/trust"
)

const trustProgram = "minid-trust"

// ImageConfig says which images may be used, and what is done with them.
type ImageConfig struct {
	SignaturePolicy      string   `toml:"signature_policy" comment:"A file as in containers-policy.json(5), e.g. /etc/containers/policy.json: how images must be signed to be pulled, and to be run in pods. Read at each question. Empty: not at all."`
	SignaturePolicyDir   string   `toml:"signature_policy_dir" comment:"NAMESPACE.json in it is the policy for the pods of a namespace of Kubernetes instead."`
	RegistriesD          string   `toml:"registries_d" comment:"A directory as in containers-registries.d(5): where signatures are kept beside registries. Those that cosign puts into the registry are always found."`
	DecryptionKeysPath   string   `toml:"decryption_keys_path" comment:"A directory of private keys that open encrypted layers (PEM or DER for JWE and PKCS#7, with its certificate for the latter; PGP). Read at each question."`
	KeyProviderConfig    string   `toml:"key_provider_config" comment:"A file as ocicrypt reads it (OCICRYPT_KEYPROVIDER_CONFIG), of programs and services that open keys. Empty: none."`
	TrustProgram         string   `toml:"trust_program" comment:"What judges signatures and opens keys. Empty: minid-trust beside minid, else in $PATH."`
	PullProgressTimeout  Duration `toml:"pull_progress_timeout" comment:"A pull fails when no byte of a layer that is being fetched has arrived for so long. \"0s\": never."`
	LayerPartSize        Size     `toml:"layer_part_size" comment:"Layers that are larger are fetched in parts of this size, four at a time, which are held in memory: for registries that are slow for one connection. 0: each by one request."`
	PartialPulls         bool     `toml:"partial_pulls" comment:"Of layers of the kind zstd:chunked, what other layers here have is not fetched."`
	MaxConcurrentUnpacks int      `toml:"max_concurrent_unpacks" comment:"Layers that are unpacked at once, by all pulls together. 0: one more than there are processors."`
	SyncFS               bool     `toml:"sync_fs" comment:"false: an image has its name before it is on the disk. A power cut may then leave one that is not whole."`
	SeparatePullCgroup   string   `toml:"separate_pull_cgroup" comment:"Where the layers of a kubelet's pulls are fetched and unpacked, by a process of its own: in the pod's cgroup (pod), in a slice of systemd (NAME.slice), or in a cgroup (/PATH). Empty: by minid itself."`
	AdditionalStores     []string `toml:"additional_stores" comment:"Root directories of other daemons that do not run, maybe on media that cannot be written: their images are used from there, and never changed."`
	PinnedImages         []string `toml:"pinned_images" comment:"Names of images that a kubelet is told never to remove: whole, with * at the end, or with * at both ends."`
}

func defaultImage() ImageConfig {
	return ImageConfig{
		SignaturePolicyDir: "/etc/minid/policies", RegistriesD: "/etc/containers/registries.d", DecryptionKeysPath: "/etc/minid/keys",
		PullProgressTimeout: Duration(5 * time.Minute), SyncFS: true, PartialPulls: true, PinnedImages: []string{}, AdditionalStores: []string{},
	}
}

// isSlice tells the name of a slice of systemd (systemd.slice(5)).
func isSlice(group string) bool {
	return strings.HasSuffix(group, ".slice") && len(group) > len(".slice") && !strings.ContainsAny(group, "/ ") && !strings.HasPrefix(group, "-")
}

// checkImage complains of what cannot be meant of images.
func (c Config) checkImage(bad func(key, format string, args ...any), absolute func(key, path string)) {
	for key, value := range map[string]string{
		"image.signature_policy": c.Image.SignaturePolicy, "image.signature_policy_dir": c.Image.SignaturePolicyDir,
		"image.registries_d": c.Image.RegistriesD, "image.decryption_keys_path": c.Image.DecryptionKeysPath,
		"image.key_provider_config": c.Image.KeyProviderConfig, "image.trust_program": c.Image.TrustProgram,
		"registry.registries_conf": c.Registry.RegistriesConf,
	} {
		absolute(key, value)
	}
	for _, dir := range c.Image.AdditionalStores {
		absolute("image.additional_stores", dir)
		if dir == c.Root {
			bad("image.additional_stores", "%s is the root of this daemon itself", dir)
		}
	}
	if group := c.Image.SeparatePullCgroup; group != "" && group != policy.PullInPod && !isSlice(group) {
		if cgroup.CheckGroup(group) != nil || strings.HasSuffix(group, ".slice") {
			bad("image.separate_pull_cgroup", "%q is not pod, a slice of systemd like pulls.slice, or a cgroup like /pulls", group)
		}
	}
	if n := c.Image.LayerPartSize; n != 0 && (n < 1<<20 || n > 1<<30) {
		bad("image.layer_part_size", "%d bytes is neither 0 nor between 1MiB and 1GiB", n)
	}
	if n := c.Image.MaxConcurrentUnpacks; n < 0 || n > 64 {
		bad("image.max_concurrent_unpacks", "%d is not between 0 and 64", n)
	}
	if d := time.Duration(c.Image.PullProgressTimeout); d != 0 && d < time.Second {
		bad("image.pull_progress_timeout", "%s is less than a second: write e.g. \"5m\", or \"0s\" for never", d)
	}
	for _, p := range c.Image.PinnedImages {
		if strings.Contains(strings.Trim(p, "*"), "*") || strings.HasPrefix(p, "*") && !strings.HasSuffix(p, "*") || strings.Trim(p, "*") == "" {
			bad("image.pinned_images", "%q is neither a name, nor one with * at its end or at both ends", p)
		}
	}
}

// trustSettings are what images are judged by.
func (c Config) trustSettings() trust.Settings {
	return trust.Settings{
		Policy: c.Image.SignaturePolicy, PolicyDir: c.Image.SignaturePolicyDir, RegistriesD: c.Image.RegistriesD,
		KeysDir: c.Image.DecryptionKeysPath, KeyProvider: c.Image.KeyProviderConfig,
	}
}

// newJudge makes the one who asks minid-trust. That the program is not there is told when there is a question for it.
func newJudge(d *Daemon) (*trust.Judge, error) {
	program := d.Config.Image.TrustProgram
	if program == "" {
		program = trustProgram
		if self, err := os.Executable(); err == nil {
			if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), trustProgram)); err == nil {
				program = beside
			}
		}
	}
	return trust.Open(trust.Options{Settings: d.Config.trustSettings(), Program: program, State: filepath.Join(d.Config.State, "trust"), Log: d.Log})
}

// pinned tells whether the configuration pins an image, as CRI-O's pinned_images do: a name, as Docker would complete it,
// is compared whole; PREFIX* with the beginning; *WORD* with any part.
func (d *Daemon) pinned(image string) bool {
	for _, p := range d.config.Load().Image.PinnedImages {
		word := strings.Trim(p, "*")
		switch {
		case strings.HasPrefix(p, "*"):
			if strings.Contains(image, word) {
				return true
			}
		case strings.HasSuffix(p, "*"):
			if strings.HasPrefix(image, word) {
				return true
			}
		default:
			if ref, err := name.Parse(p); err == nil && ref.String() == image {
				return true
			}
		}
	}
	return false
}
