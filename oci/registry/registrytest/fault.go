package registrytest

import (
	"net/http"
	"strings"
	"time"
)

// Fault makes requests go wrong. The first one that fits a request is used.
type Fault struct {
	Method string // "" fits all
	Path   string // a part of the path; "" fits all
	Skip   int    // so many fitting requests pass before
	Times  int    // so many are hit; 0: all

	Status     int    // answer this status
	Code       string // with this code of the protocol in the body
	Header     http.Header
	CutAfter   int64         // cut the connection after so many bytes of the body (with Cut, also 0)
	Cut        bool          // cut the connection
	CutRequest int64         // take so many bytes of the request's body, store them, and cut the connection
	Corrupt    bool          // flip a bit of the body
	Digest     string        // claim this Docker-Content-Digest
	Hang       time.Duration // say nothing for so long before the answer (ends with the request)
}

// Fail adds a fault.
func (r *Registry) Fail(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

// fault takes the fault for a request, or nil.
func (r *Registry) fault(req *http.Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.Method != "" && f.Method != req.Method || !strings.Contains(req.URL.Path, f.Path) || f.Times < 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				f.Times = -1
			}
		}
		hit := *f
		return &hit
	}
	return nil
}

// faultyWriter spoils an answer as a fault says.
type faultyWriter struct {
	http.ResponseWriter
	fault *Fault
	sent  int64
}

func (w *faultyWriter) WriteHeader(status int) {
	if w.fault.Digest != "" {
		w.Header().Set("Docker-Content-Digest", w.fault.Digest)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if w.fault.Corrupt && len(p) > 0 {
		p = append([]byte{p[0] ^ 1}, p[1:]...)
	}
	if !w.fault.Cut && w.fault.CutAfter == 0 {
		return w.ResponseWriter.Write(p)
	}
	left := w.fault.CutAfter - w.sent
	if int64(len(p)) <= left {
		n, err := w.ResponseWriter.Write(p)
		w.sent += int64(n)
		return n, err
	}
	_, _ = w.ResponseWriter.Write(p[:left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// refuse answers with the fault's status; false when it has none.
func (f *Fault) refuse(w http.ResponseWriter, req *http.Request) bool {
	if f.Hang > 0 {
		select {
		case <-time.After(f.Hang):
		case <-req.Context().Done():
		}
	}
	if f.Cut && f.CutAfter == 0 {
		panic(http.ErrAbortHandler)
	}
	for key, values := range f.Header {
		w.Header()[key] = values
	}
	if f.Status == 0 {
		return false
	}
	fail(w, f.Status, f.Code, strings.ToLower(strings.ReplaceAll(f.Code, "_", " ")))
	return true
}
