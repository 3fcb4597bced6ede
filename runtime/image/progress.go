package image

import (
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
)

// Stages of an item of a transfer.
const (
	StageResolving = "resolving"
	StageWaiting   = "waiting"
	StageFetching  = "fetching"
	StageVerifying = "verifying"
	StageUnpacking = "unpacking"
	StagePushing   = "pushing"
	StageExists    = "exists"
	StageMounted   = "mounted"
	StageLazy      = "lazy" // not fetched: the snapshotter does it as it is read
	StageDone      = "done"
)

// KindImage is the kind of the item that stands for the whole transfer; the others are oci/image's kinds.
const KindImage = "image"

// Progress is the state of one item of a transfer. Items come again as they change.
type Progress struct {
	Item    string // digest, or the reference for the whole
	Kind    string // index, manifest, config, layer, blob or image
	Stage   string
	Offset  int64 // bytes
	Total   int64 // bytes; 0: unknown
	Message string
	Image   *Image // in the last one of a transfer
}

func progressOf(d ocispec.Descriptor, stage string, offset int64) Progress {
	return Progress{Item: d.Digest.String(), Kind: string(oci.KindOf(d.MediaType)), Stage: stage, Offset: offset, Total: d.Size}
}

// progressEvery is how often bytes of one item are reported. Changes of stage are reported at once.
const progressEvery = 100 * time.Millisecond

// serialised makes a progress callback safe for the goroutines of a transfer, and nil harmless.
func serialised(fn func(Progress)) func(Progress) {
	if fn == nil {
		return func(Progress) {}
	}
	var mu sync.Mutex
	return func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		fn(p)
	}
}

// meter reports the bytes of one item now and then.
type meter struct {
	report func(Progress)
	d      ocispec.Descriptor
	stage  string
	next   time.Time
}

func (m *meter) at(offset int64) {
	if now := time.Now(); now.After(m.next) {
		m.next = now.Add(progressEvery)
		m.report(progressOf(m.d, m.stage, offset))
	}
}
