package client

import (
	"fmt"

	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/minirt/mini/runtime/api"
)

// appended is data with a message behind it. Those of the native API encode themselves.
func appended(data []byte, v any) ([]byte, error) {
	switch m := v.(type) {
	case api.Message:
		end := len(data)
		data = append(data, make([]byte, m.SizeVT())...)
		_, err := m.MarshalToSizedBufferVT(data[end:])
		return data, err
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(data, m)
	default:
		return nil, fmt.Errorf("%T is no message", v)
	}
}

// decode reads a message.
func decode(data []byte, v any) error {
	switch m := v.(type) {
	case api.Message:
		return m.UnmarshalVT(data)
	case proto.Message:
		return proto.Unmarshal(data, m)
	default:
		return fmt.Errorf("%T is no message", v)
	}
}

// codec is this encoding for gRPC's library, whose own goes by reflection. On the wire there is no difference.
type codec struct{}

func (codec) Name() string { return protocodec.Name }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := appended(nil, v)
	return mem.BufferSlice{mem.SliceBuffer(data)}, err
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return decode(whole.ReadOnlyData(), v)
}
