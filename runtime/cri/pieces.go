package cri

import "google.golang.org/protobuf/proto"

// Bounds of one message of a streamed list: far below the 4 MiB that a gRPC client takes unless told otherwise.
const (
	pieceBytes = 1 << 20
	pieceItems = 1000
)

// inPieces sends a list in messages of bounded size, each of one item at least; nothing for an empty list.
func inPieces[T proto.Message](items []T, send func([]T) error) error {
	begin, bytes := 0, 0
	for i, item := range items {
		n := proto.Size(item) + 8 // the tag and the length
		if i > begin && (bytes+n > pieceBytes || i-begin >= pieceItems) {
			if err := send(items[begin:i]); err != nil {
				return err
			}
			begin, bytes = i, 0
		}
		bytes += n
	}
	if begin == len(items) {
		return nil
	}
	return send(items[begin:])
}
