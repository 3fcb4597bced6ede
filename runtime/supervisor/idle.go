package supervisor

import "time"

// idleAfter is how long a supervisor without containers waits for a daemon. One that is stopped in good order ends its
// idle supervisors itself; this is for those of a daemon that was killed and never came back.
const idleAfter = time.Minute

// noteIdle starts or stops the wait, after containers or connections have come or gone. The lock is held.
func (s *Supervisor) noteIdle() {
	if s.idle == nil {
		return // not running yet
	}
	if len(s.conns) > 0 || len(s.containers) > 0 {
		s.idle.Stop()
		return
	}
	s.idle.Reset(s.idleAfter)
}

func (s *Supervisor) watchIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = time.AfterFunc(s.idleAfter, s.endIdle)
	s.noteIdle()
}

func (s *Supervisor) endIdle() {
	s.mu.Lock()
	wanted := len(s.conns) > 0
	s.mu.Unlock()
	if wanted {
		return
	}
	if err := s.shutdown(); err == nil { // refused with a container
		s.Log.Info("supervisor ends: no container and no daemon", "dir", s.Dir, "after", s.idleAfter)
	}
}
