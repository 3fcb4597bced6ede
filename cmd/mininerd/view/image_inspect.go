package view

import (
	"time"

	"github.com/minirt/mini/oci/name"
)

// ImageDocument is what image inspect prints, as docker's API 1.48 has it.
type ImageDocument struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      string
	Author       string
	Config       ContainerConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	RootFS       RootFS
	Metadata     struct{ LastTagTime string }
	Descriptor   Descriptor
}

// RootFS is what an image's root filesystem is made of: the digests of its layers, unpacked.
type RootFS struct {
	Type   string
	Layers []string
}

// Descriptor is what the image's name points to.
type Descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// imageConfig is what containers of an image begin with.
func imageConfig(i LocalImage) ContainerConfig {
	c := i.Config.Config
	return ContainerConfig{
		ExposedPorts: c.ExposedPorts, User: c.User, Env: c.Env, Cmd: c.Cmd, Entrypoint: c.Entrypoint, Volumes: c.Volumes, WorkingDir: c.WorkingDir, Labels: c.Labels,
		//lint:ignore SA1019 it is what the image says
		StopSignal: c.StopSignal, Healthcheck: i.More.Healthcheck, OnBuild: i.More.OnBuild, Shell: i.More.Shell, ArgsEscaped: c.ArgsEscaped,
	}
}

// DocumentOfImage describes an image; names are all the names that it has.
func DocumentOfImage(i LocalImage, names []string) ImageDocument {
	d := ImageDocument{
		ID: i.Id, RepoTags: []string{}, RepoDigests: []string{}, Created: i.Created().UTC().Format(time.RFC3339Nano), Author: i.Config.Author,
		Config: imageConfig(i), Architecture: i.Config.Architecture, Variant: i.Config.Variant, Os: i.Config.OS, Size: i.Bytes,
		RootFS:     RootFS{Type: i.Config.RootFS.Type, Layers: []string{}},
		Descriptor: Descriptor{i.Target.GetMediaType(), i.Target.GetDigest(), i.Target.GetSize()},
	}
	if n := len(i.Config.History); n > 0 {
		d.Comment = i.Config.History[n-1].Comment
	}
	for _, l := range i.Config.RootFS.DiffIDs {
		d.RootFS.Layers = append(d.RootFS.Layers, l.String())
	}
	digests := map[string]bool{}
	for _, n := range names {
		ref, err := name.Parse(n)
		if err != nil {
			continue
		}
		if ref.Digest() == "" {
			d.RepoTags = append(d.RepoTags, ref.Familiar())
		}
		if by := ref.TrimVersion().Familiar() + "@" + i.Target.GetDigest(); !digests[by] {
			digests[by] = true
			d.RepoDigests = append(d.RepoDigests, by)
		}
	}
	d.Metadata.LastTagTime = time.Unix(0, i.UpdatedAt).UTC().Format(time.RFC3339Nano)
	return d
}
