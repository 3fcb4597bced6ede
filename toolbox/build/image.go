package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"time"
)

// imageName is what the daemon calls it.
const imageName = "docker.io/mini/toolbox:latest"

// epoch is the time of everything.
const epoch = "1970-01-01T00:00:00Z"

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// descriptor is the part of the image-spec's that is needed here.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// archive is an OCI layout in a tar that grows by blobs.
type archive struct {
	buffer bytes.Buffer
	tar    *tar.Writer
}

// image writes the OCI archive (image-spec 1.1, image-layout) of a layer with the program under its names.
func image(program []byte, names []string) ([]byte, error) {
	raw, err := layer(program, names)
	if err != nil {
		return nil, err
	}
	packed, err := compress(raw)
	if err != nil {
		return nil, err
	}
	a := &archive{}
	a.tar = tar.NewWriter(&a.buffer)
	if err := a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return nil, err
	}
	layerDesc, err := a.blob("application/vnd.oci.image.layer.v1.tar+gzip", packed)
	if err != nil {
		return nil, err
	}
	configDesc, err := a.document("application/vnd.oci.image.config.v1+json", config(digestOf(raw)))
	if err != nil {
		return nil, err
	}
	manifest, err := a.document(ociManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest,
		"config": configDesc, "layers": []descriptor{layerDesc},
	})
	if err != nil {
		return nil, err
	}
	manifest.Platform = &platform{Architecture: runtime.GOARCH, OS: "linux"}
	manifest.Annotations = map[string]string{
		"io.containerd.image.name":          imageName,
		"org.opencontainers.image.ref.name": "latest",
	}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
		"manifests": []descriptor{manifest},
	})
	if err != nil {
		return nil, err
	}
	if err := a.file("index.json", index); err != nil {
		return nil, err
	}
	if err := a.tar.Close(); err != nil {
		return nil, err
	}
	return a.buffer.Bytes(), nil
}

func config(diffID string) map[string]any {
	return map[string]any{
		"created": epoch, "architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{
			"Env":    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Cmd":    []string{"sh"},
			"Labels": map[string]string{"org.opencontainers.image.title": "toolbox"},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{diffID}},
		"history": []map[string]any{{"created": epoch, "created_by": "toolbox/build"}},
	}
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func compress(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (a *archive) file(name string, data []byte) error {
	h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := a.tar.Write(data)
	return err
}

func (a *archive) blob(mediaType string, data []byte) (descriptor, error) {
	digest := digestOf(data)
	name := "blobs/sha256/" + digest[len("sha256:"):]
	return descriptor{MediaType: mediaType, Digest: digest, Size: len(data)}, a.file(name, data)
}

func (a *archive) document(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return a.blob(mediaType, data)
}
