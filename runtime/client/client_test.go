package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/api"
)

// The fakes answer what the tests ask.
type (
	fakeImages  struct{ api.UnimplementedImagesServer }
	fakeContent struct {
		api.UnimplementedContentServer
		got chan string
	}
	fakeProcesses struct {
		api.UnimplementedProcessesServer
		got chan string
	}
)

func (fakeImages) Get(_ context.Context, r *api.GetImageRequest) (*api.Image, error) {
	return nil, fmt.Errorf("image %s: not in namespace %s: pull it first: %w", r.Name, r.Namespace, errdefs.ErrNotFound)
}

func (fakeImages) Pull(_ *api.PullRequest, s grpc.ServerStreamingServer[api.Progress]) error {
	_ = s.Send(&api.Progress{Item: "sha256:1", Stage: "fetching"})
	_ = s.Send(&api.Progress{Item: "sha256:1", Stage: "done"})
	return s.Send(&api.Progress{Image: &api.Image{Name: "made"}})
}

func (fakeImages) Import(s grpc.ClientStreamingServer[api.ImportRequest, api.ImportResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if first.Options.BaseName == "refused" {
		return fmt.Errorf("archive: not a tar: %w", errdefs.ErrInvalidArgument)
	}
	n := 0
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&api.ImportResponse{Images: []*api.Image{{Size: int64(n)}}})
		}
		if err != nil {
			return err
		}
		n += len(m.Data)
	}
}

func (f fakeContent) Write(s grpc.BidiStreamingServer[api.WriteContentRequest, api.WriteContentResponse]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	_ = s.Send(&api.WriteContentResponse{Offset: 3})
	var data []byte
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if m.Commit {
			f.got <- string(data)
			return s.Send(&api.WriteContentResponse{Digest: "sha256:2", Committed: true})
		}
		data = append(data, m.Data...)
	}
}

// Attach echoes the input to the output in capitals, ends at the end of the input, and leaves when detached.
func (f fakeProcesses) Attach(s grpc.BidiStreamingServer[api.AttachInput, api.AttachOutput]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	_ = s.Send(&api.AttachOutput{Output: &api.AttachOutput_Opened{Opened: &api.AttachOpened{Pid: 7}}})
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		switch in := m.Input.(type) {
		case *api.AttachInput_Stdin:
			_ = s.Send(&api.AttachOutput{Output: &api.AttachOutput_Stdout{Stdout: bytes.ToUpper(in.Stdin)}})
		case *api.AttachInput_Resize:
			f.got <- fmt.Sprint(in.Resize.Width, "x", in.Resize.Height)
		case *api.AttachInput_CloseStdin:
			return s.Send(&api.AttachOutput{Output: &api.AttachOutput_Exit{Exit: &api.Exit{Code: 3}}})
		case *api.AttachInput_Detach:
			return nil
		}
	}
}

func start(t *testing.T) (*Client, <-chan string, *grpc.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	s := grpc.NewServer(grpcx.ServerOptions(grpcx.Interceptors{Log: slog.New(slog.DiscardHandler)}, nil)...)
	api.RegisterImagesServer(s, fakeImages{})
	api.RegisterContentServer(s, fakeContent{got: got})
	api.RegisterProcessesServer(s, fakeProcesses{got: got})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	c, err := Dial(t.Context(), Options{Address: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, got, s
}

func TestErrorsAreClean(t *testing.T) {
	c, _, s := start(t)
	_, err := c.Images.Get(t.Context(), &api.GetImageRequest{Namespace: "default", Name: "x"})
	if !errdefs.IsNotFound(err) || err.Error() != "image x: not in namespace default: pull it first" {
		t.Errorf("error is %q (%v)", err, errdefs.Resolve(err))
	}
	s.Stop()
	_, err = c.Images.Get(t.Context(), &api.GetImageRequest{})
	if !errdefs.IsUnavailable(err) || strings.Contains(err.Error(), "rpc error") || !strings.Contains(err.Error(), c.Address()) {
		t.Errorf("with the daemon gone the error is %q", err)
	}
}

func TestDialErrors(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.sock")
	_, err := Dial(t.Context(), Options{Address: missing})
	if !errdefs.IsUnavailable(err) || err.Error() != "no daemon at "+missing+": start it with `minid` or pass --address" {
		t.Errorf("no socket: %q", err)
	}
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := Dial(t.Context(), Options{Address: stale}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "nobody listens") {
		t.Errorf("stale socket: %q", err)
	}
	denied := dialError("/s", &net.OpError{Err: fs.ErrPermission})
	if !errdefs.IsPermissionDenied(denied) || !strings.Contains(denied.Error(), "be root") {
		t.Errorf("no permission: %q", denied)
	}
}

func TestSplit(t *testing.T) {
	for in, want := range map[string]string{
		"": "unix " + DefaultAddress, "/a/b": "unix /a/b", "unix:///a": "unix /a", "unix:a.sock": "unix a.sock",
		"a.sock": "unix a.sock", "localhost:80": "tcp localhost:80", "tcp://h:1": "tcp h:1", "[::1]:80": "tcp [::1]:80",
	} {
		network, address := split(in)
		if got := network + " " + address; got != want {
			t.Errorf("split(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestPull(t *testing.T) {
	c, _, _ := start(t)
	var stages []string
	image, err := c.Pull(t.Context(), &api.PullRequest{}, func(p *api.Progress) { stages = append(stages, p.Stage) })
	if err != nil || image.GetName() != "made" || strings.Join(stages, ",") != "fetching,done," {
		t.Errorf("image %v, stages %q, error %v", image, stages, err)
	}
}

func TestImport(t *testing.T) {
	c, _, _ := start(t)
	const size = 3*grpcx.ChunkSize + 7
	images, err := c.Import(t.Context(), &api.ImportOptions{}, bytes.NewReader(make([]byte, size)))
	if err != nil || len(images) != 1 || images[0].Size != size {
		t.Errorf("images %v, error %v: want %d bytes counted", images, err, size)
	}
	// A server that refuses early answers with its reason, although the client still sends.
	_, err = c.Import(t.Context(), &api.ImportOptions{BaseName: "refused"}, endless{})
	if !errdefs.IsInvalidArgument(err) || err.Error() != "archive: not a tar" {
		t.Errorf("refused import: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestWriteBlobResumes(t *testing.T) {
	for name, blob := range map[string]io.Reader{
		"seeker": strings.NewReader("abcdef"), "stream": io.MultiReader(strings.NewReader("abcdef")),
	} {
		t.Run(name, func(t *testing.T) {
			c, sent, _ := start(t)
			digest, err := c.WriteBlob(t.Context(), &api.WriteContentRequest{Ref: "r"}, blob)
			if err != nil || digest != "sha256:2" {
				t.Fatalf("digest %q, error %v", digest, err)
			}
			if got := <-sent; got != "def" {
				t.Errorf("sent %q, want what follows the offset", got)
			}
		})
	}
}

func TestAttach(t *testing.T) {
	c, sent, _ := start(t)
	in, typed := io.Pipe()
	var out bytes.Buffer
	sizes := make(chan Size, 1)
	sizes <- Size{80, 25}
	opened := make(chan int64, 1)
	go func() {
		<-sent
		io.WriteString(typed, "hello")
		typed.Close()
	}()
	exit, err := c.Attach(t.Context(), &api.AttachOpen{Id: "x"}, Attachment{
		Stdin: in, Stdout: &out, Resize: sizes, Opened: func(o *api.AttachOpened) { opened <- o.Pid },
	})
	if err != nil || exit.GetCode() != 3 || out.String() != "HELLO" || <-opened != 7 {
		t.Errorf("exit %v, error %v, output %q", exit, err, out.String())
	}
}

func TestAttachDetach(t *testing.T) {
	c, _, _ := start(t)
	var out bytes.Buffer
	exit, err := c.Attach(t.Context(), &api.AttachOpen{}, Attachment{
		Stdin: io.MultiReader(strings.NewReader("ab\x10\x11"), neverReader{}), Stdout: &out, DetachKeys: []byte{0x10, 0x11},
	})
	if err != nil || exit != nil || out.String() != "AB" {
		t.Errorf("exit %v, error %v, output %q: want none, none and what came before the keys", exit, err, out.String())
	}
}

type neverReader struct{}

func (neverReader) Read([]byte) (int, error) { select {} }

func TestAttachCancelled(t *testing.T) {
	c, _, _ := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := c.Attach(ctx, &api.AttachOpen{}, Attachment{Opened: func(*api.AttachOpened) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
}
