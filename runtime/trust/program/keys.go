//go:build containers_image_openpgp

package program

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	keyproviders "github.com/containers/ocicrypt/config/keyprovider-config"
	"github.com/containers/ocicrypt/helpers"
	"github.com/containers/ocicrypt/utils"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
	"github.com/minirt/mini/runtime/trust"
)

// publicOptions is the annotation with what everybody may know of a layer's cipher.
const publicOptions = "org.opencontainers.image.enc.pubopts"

// unwrap opens the wrapped keys of layers with the machine's private keys and its key providers.
func unwrap(r trust.UnwrapRequest) (trust.Reply, error) {
	dc, err := decryption(r.KeysDir)
	if err != nil {
		return trust.Reply{}, err
	}
	var reply trust.Reply
	for _, l := range r.Layers {
		k, err := unwrapLayer(dc, l)
		key := trust.Key{Key: k}
		if err != nil {
			key.Refused = strings.Join(strings.Fields(err.Error()), " ")
		}
		reply.Keys = append(reply.Keys, key)
	}
	return reply, nil
}

// unwrapLayer tries each wrapping of a layer's key until one opens.
func unwrapLayer(dc *config.DecryptConfig, l ocispec.Descriptor) (encryption.Key, error) {
	public, err := base64.StdEncoding.DecodeString(l.Annotations[publicOptions])
	if err != nil {
		return encryption.Key{}, fmt.Errorf("annotation %s: %w", publicOptions, err)
	}
	wrapped := ocicrypt.GetWrappedKeysMap(l)
	if len(wrapped) == 0 {
		return encryption.Key{}, errors.New("it says of no key how it is wrapped")
	}
	var errs []error
	for _, scheme := range slices.Sorted(maps.Keys(wrapped)) {
		w := ocicrypt.GetKeyWrapper(scheme)
		if w.NoPossibleKeys(dc.Parameters) {
			errs = append(errs, fmt.Errorf("%s: there is no key of this kind", scheme))
			continue
		}
		for _, text := range strings.Split(wrapped[scheme], ",") {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return encryption.Key{}, fmt.Errorf("annotation of %s: %w", scheme, err)
			}
			private, err := w.UnwrapKey(dc, data)
			if err == nil && private != nil {
				return encryption.Key{Public: public, Private: private}, nil
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", scheme, err))
			}
		}
	}
	return encryption.Key{}, errors.Join(errs...)
}

// decryption gathers the private keys of a directory, whatever their kind, and all key providers.
func decryption(dir string) (*config.DecryptConfig, error) {
	var all []config.CryptoConfig
	add := func(c config.CryptoConfig, err error) error {
		if err == nil {
			all = append(all, c)
		}
		return err
	}
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("decryption keys: %w", err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue // as CRI-O does: links and directories are not followed
			}
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err == nil {
				err = add(keyOf(data))
			}
			if err != nil {
				return nil, fmt.Errorf("decryption key %s: %w", e.Name(), err)
			}
		}
	}
	providers, err := keyproviders.GetConfiguration()
	if err != nil {
		return nil, fmt.Errorf("key providers: %w", err)
	}
	if providers != nil {
		for name := range providers.KeyProviderConfig {
			if err := add(config.DecryptWithKeyProvider([][]byte{[]byte(name)})); err != nil {
				return nil, fmt.Errorf("key provider %s: %w", name, err)
			}
		}
	}
	dc := config.CombineCryptoConfigs(all).DecryptConfig
	if dc == nil || dc.Parameters == nil {
		dc = &config.DecryptConfig{Parameters: map[string][][]byte{}}
	}
	return dc, nil
}

// keyOf tells by its content what a file of the keys' directory is; one that is no key counts for nothing.
func keyOf(data []byte) (config.CryptoConfig, error) {
	private, err := utils.IsPrivateKey(data, nil)
	switch {
	case utils.IsPasswordError(err):
		return config.CryptoConfig{}, errors.New("it is locked with a password, which nobody can give here")
	case private:
		return config.DecryptWithPrivKeys([][]byte{data}, [][]byte{nil})
	case utils.IsCertificate(data): // PKCS#7 wants it beside its key
		return config.DecryptWithX509s([][]byte{data})
	case utils.IsGPGPrivateKeyRing(data):
		return config.DecryptWithGpgPrivKeys([][]byte{data}, [][]byte{nil})
	}
	return config.CryptoConfig{DecryptConfig: &config.DecryptConfig{}}, nil
}

// wrap makes the annotations that let recipients open the keys of layers.
func wrap(r trust.WrapRequest) (trust.Reply, error) {
	cc, err := helpers.CreateCryptoConfig(r.Recipients, nil)
	if err != nil {
		return trust.Reply{}, fmt.Errorf("recipients: %w", err)
	}
	schemes := []string{"pgp", "jwe", "pkcs7", "pkcs11"}
	providers, err := keyproviders.GetConfiguration()
	if err != nil {
		return trust.Reply{}, fmt.Errorf("key providers: %w", err)
	}
	if providers != nil {
		for name := range providers.KeyProviderConfig {
			schemes = append(schemes, "provider."+name)
		}
	}
	var reply trust.Reply
	for _, l := range r.Layers {
		annotations := map[string]string{publicOptions: base64.StdEncoding.EncodeToString(l.Public)}
		for _, scheme := range schemes {
			w := ocicrypt.GetKeyWrapper(scheme)
			data, err := w.WrapKeys(cc.EncryptConfig, l.Private)
			if err != nil {
				return trust.Reply{}, fmt.Errorf("wrap with %s: %w", scheme, err)
			}
			if len(data) > 0 {
				annotations[w.GetAnnotationID()] = base64.StdEncoding.EncodeToString(data)
			}
		}
		if len(annotations) == 1 {
			return trust.Reply{}, fmt.Errorf("none of the recipients %q is of a kind that is known", r.Recipients)
		}
		reply.Annotations = append(reply.Annotations, annotations)
	}
	return reply, nil
}
