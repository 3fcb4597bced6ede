package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// timeout is how long one question may take, what the registry takes for signatures included.
	timeout = 2 * time.Minute
	// grace is how long the output may be held open by others when the program has ended.
	grace = time.Second
	// maxReply bounds what is read of the program's output, in bytes.
	maxReply = 64 << 20
	// maxComplaint bounds what is kept of what it writes to its standard error, in bytes.
	maxComplaint = 4 << 10
)

// ask runs the program for one question. material is called when it wants some.
func (j *Judge) ask(ctx context.Context, s *Settings, r Request, material func() Material) (Reply, error) {
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(timed, j.program)
	cmd.Env = environment(s)
	var complaints complaints
	cmd.Stderr = &complaints
	// A key provider that it has started is to end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	in, err := cmd.StdinPipe()
	if err != nil {
		return Reply{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Reply{}, err
	}
	if err := cmd.Start(); err != nil {
		return Reply{}, fmt.Errorf("it cannot be run: %w: install minid-trust beside minid, or set image.trust_program: %w", err, errdefs.ErrFailedPrecondition)
	}
	reply, failed := converse(in, io.LimitReader(out, maxReply), r, material)
	_ = in.Close() // it ends when there is no more to read
	if failed != nil {
		cancel()
	}
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return Reply{}, context.Cause(ctx)
	case errors.Is(timed.Err(), context.DeadlineExceeded):
		return Reply{}, fmt.Errorf("%s did not answer in %s: %w", j.program, timeout, errdefs.ErrUnavailable)
	case failed != nil:
		return Reply{}, fmt.Errorf("%s does not answer: %w (%s) %s: %w", j.program, failed, cmd.ProcessState, complaints.String(), errdefs.ErrFailedPrecondition)
	case reply.Error != "":
		return Reply{}, fmt.Errorf("%s: %w", reply.Error, errdefs.ErrFailedPrecondition)
	case ended != nil:
		return Reply{}, fmt.Errorf("%s: %w: %s: %w", j.program, ended, complaints.String(), errdefs.ErrFailedPrecondition)
	}
	if text := complaints.String(); text != "" {
		j.log.Warn("minid-trust says", "stderr", text)
	}
	return reply, nil
}

// converse sends the question and answers what comes back until it is the last.
func converse(in io.Writer, out io.Reader, r Request, material func() Material) (Reply, error) {
	send, receive := json.NewEncoder(in), json.NewDecoder(out)
	if err := send.Encode(r); err != nil {
		return Reply{}, err
	}
	for {
		var reply Reply
		if err := receive.Decode(&reply); err != nil {
			return Reply{}, err
		}
		if !reply.WantsMaterial {
			return reply, nil
		}
		if material == nil {
			return Reply{}, errors.New("it wants material for a question that has none")
		}
		if err := send.Encode(material()); err != nil {
			return Reply{}, err
		}
	}
}

// environment is what of the daemon's the program needs.
func environment(s *Settings) []string {
	env := []string{"PATH=" + os.Getenv("PATH")}
	for _, name := range []string{"HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if s.KeyProvider != "" {
		env = append(env, "OCICRYPT_KEYPROVIDER_CONFIG="+s.KeyProvider)
	}
	return env
}

// complaints keeps the first bytes of what is written to it.
type complaints struct{ kept bytes.Buffer }

func (c *complaints) Write(data []byte) (int, error) {
	c.kept.Write(data[:min(len(data), maxComplaint-c.kept.Len())])
	return len(data), nil
}

// String is the text on one line.
func (c *complaints) String() string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(c.kept.String(), "\uFFFD")), " ")
}
