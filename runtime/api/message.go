package api

// Message is any message of this package. It encodes and decodes itself, without reflection.
type Message interface {
	SizeVT() int
	MarshalToSizedBufferVT(to []byte) (int, error) // from the end of to on
	UnmarshalVT(from []byte) error
}
