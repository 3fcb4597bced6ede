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
	"github.com/containers/ocicrypt/utils"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
	"github.com/minirt/mini/runtime/trust"
)

// publicOptions is the annotation with what everybody may know of a layer's cipher.
const publicOptions = "org.opencontainers.image.enc.pubopts"

// unwrap opens the wrapped keys of layers with the machine's private keys and its key providers.
func unwrap(r trust.UnwrapRequest) (trust.Reply, error) {
	dc, err := decryption(r.KeysDir, r.Keys)
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

// decryption gathers the private keys of a directory, whatever their kind, others, and all key providers.
func decryption(dir string, others [][]byte) (*config.DecryptConfig, error) {
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
	for _, data := range others {
		if err := add(keyOf(data)); err != nil {
			return nil, fmt.Errorf("decryption key: %w", err)
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
	cc, err := recipients(r.Recipients)
	if err != nil {
		return trust.Reply{}, err
	}
	schemes := []string{"jwe", "pkcs7"}
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
			data, err := w.WrapKeys(cc, l.Private)
			if err != nil {
				return trust.Reply{}, fmt.Errorf("wrap with %s: %w", scheme, err)
			}
			if len(data) > 0 {
				annotations[w.GetAnnotationID()] = base64.StdEncoding.EncodeToString(data)
			}
		}
		if len(annotations) == 1 {
			return trust.Reply{}, errors.New("nobody of the recipients could be given the key: key providers need a configuration")
		}
		reply.Annotations = append(reply.Annotations, annotations)
	}
	return reply, nil
}

// recipients are those whom a layer's key is wrapped for.
func recipients(list []trust.Recipient) (*config.EncryptConfig, error) {
	var all []config.CryptoConfig
	for _, r := range list {
		var one config.CryptoConfig
		var err error
		switch {
		case r.Kind == "jwe" && !utils.IsPublicKey(r.Data), r.Kind == "pkcs7" && !utils.IsCertificate(r.Data):
			err = errors.New("jwe wants a public key, pkcs7 a certificate")
		case r.Kind == "jwe":
			one, err = config.EncryptWithJwe([][]byte{r.Data})
		case r.Kind == "pkcs7":
			one, err = config.EncryptWithPkcs7([][]byte{r.Data})
		case r.Kind == "provider":
			one, err = config.EncryptWithKeyProvider([][]byte{r.Data})
		default:
			err = errors.New("known are jwe, pkcs7 and provider")
		}
		if err != nil {
			return nil, fmt.Errorf("recipient of kind %q: %w", r.Kind, err)
		}
		all = append(all, one)
	}
	return config.CombineCryptoConfigs(all).EncryptConfig, nil
}
