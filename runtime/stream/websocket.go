package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	"k8s.io/utils/exec"
)

// serveV5 serves remotecommand's fifth protocol, which cri-streaming leaves to the API server: five channels as in the
// fourth, and a message {255, N} that closes channel N, so that a standard input can end while the output goes on.
func (s *Server) serveV5(w http.ResponseWriter, r *http.Request, c *command) {
	o := c.request.options
	channels := make([]wsstream.ChannelType, remotecommand.StreamResize+1)
	channels[remotecommand.StreamStdIn] = channelIf(o.Stdin, wsstream.ReadChannel)
	channels[remotecommand.StreamStdOut] = channelIf(o.Stdout, wsstream.WriteChannel)
	channels[remotecommand.StreamStdErr] = channelIf(o.Stderr, wsstream.WriteChannel)
	channels[remotecommand.StreamErr] = wsstream.WriteChannel
	channels[remotecommand.StreamResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels},
	})
	conn.SetIdleTimeout(s.config.IdleTimeout)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		s.log.Debug("a client of the streaming server did not become a WebSocket", "error", err)
		return
	}
	defer conn.Close()
	sizes := make(chan remotecommand.TerminalSize)
	go readSizes(r, streams[remotecommand.StreamResize], sizes)

	in, out, errOut := streams[remotecommand.StreamStdIn], streams[remotecommand.StreamStdOut], streams[remotecommand.StreamStdErr]
	if c.request.verb == "exec" {
		err = c.ExecInContainer(r.Context(), "", "", c.request.container, c.request.command, in, out, errOut, o.Terminal, sizes, 0)
	} else {
		err = c.AttachContainer(r.Context(), "", "", c.request.container, in, out, errOut, o.Terminal, sizes)
	}
	if err := json.NewEncoder(streams[remotecommand.StreamErr]).Encode(statusOf(c.request.verb, err)); err != nil {
		s.log.Debug("tell a client of the streaming server how its command ended", "error", err)
	}
}

func channelIf(wanted bool, t wsstream.ChannelType) wsstream.ChannelType {
	if wanted {
		return t
	}
	return wsstream.IgnoreChannel
}

// readSizes hands on the sizes that a client sends, as JSON documents, until its stream or its connection ends.
func readSizes(r *http.Request, from io.Reader, to chan<- remotecommand.TerminalSize) {
	defer close(to)
	decoder := json.NewDecoder(from)
	for {
		var size remotecommand.TerminalSize
		if decoder.Decode(&size) != nil {
			return
		}
		select {
		case to <- size:
		case <-r.Context().Done():
			return
		}
	}
}

// status is what of a metav1.Status ends a remote command.
type status struct {
	Status  string         `json:"status"`
	Message string         `json:"message,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Details *statusDetails `json:"details,omitempty"`
	Code    int            `json:"code,omitempty"`
}

type statusDetails struct {
	Causes []statusCause `json:"causes"`
}

type statusCause struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// statusOf is how a command ended, as the fourth protocol has it too.
func statusOf(verb string, err error) status {
	var code exec.ExitError
	switch {
	case err == nil:
		return status{Status: "Success"}
	case errors.As(err, &code) && code.Exited():
		return status{
			Status: "Failure", Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", err),
			Details: &statusDetails{Causes: []statusCause{{Reason: remotecommand.ExitCodeCauseType, Message: fmt.Sprint(code.ExitStatus())}}},
		}
	default:
		return status{
			Status: "Failure", Reason: "InternalError", Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("%s: %v", verb, err),
		}
	}
}
