// Package wire is the protocol between the daemon and a supervisor: the messages, and nothing that sends them.
//
// The transport is a Unix SOCK_SEQPACKET socket. One packet is one Message in JSON, at most MaxMessage bytes, with the
// file descriptors it speaks of attached (SCM_RIGHTS). Requests carry an ID and are answered by one Message with the
// same ID, in any order; messages with ID 0 are events. Large things (a container's config.json) travel as files of
// the bundle, never in a packet.
//
// The package imports neither libcontainer nor the daemon, so that both sides can import it.
package wire

import (
	"encoding/json"
	"time"
)

// Version is the protocol's. A daemon and a supervisor of different versions talk as the lower of the two.
// 2: Exec.Spec. 3: Log.Compress, Log.Attrs and Log.Logger.
const Version = 3

// VersionSpec is the first version that has Exec.Spec.
const VersionSpec = 2

// VersionLogger is the first version that has Log.Logger.
const VersionLogger = 3

// MaxMessage is the largest packet in bytes, below the kernel's default for a Unix socket's send buffer (212,992).
const MaxMessage = 128 << 10

// Methods of a supervisor. The comment names the parameters, the result, and the descriptors that travel.
const (
	MethodHello      = "hello"       // Hello → HelloResult
	MethodStart      = "start"       // Start → StartResult; answers with fds [pidfd, held…] named by StartResult.FDs
	MethodExec       = "exec"        // Exec → StartResult; the same
	MethodSignal     = "signal"      // Signal → nothing
	MethodResize     = "resize"      // Resize → nothing
	MethodStdin      = "stdin"       // Process → nothing: closes the process's standard input
	MethodAttach     = "attach"      // Attach + fds [stdin?, stdout?, stderr?] → nothing; the attachment ends when its fds close
	MethodPause      = "pause"       // Process → nothing
	MethodResume     = "resume"      // Process → nothing
	MethodUpdate     = "update"      // Update → nothing
	MethodCheckpoint = "checkpoint"  // Checkpoint → nothing
	MethodDelete     = "delete"      // Delete → Exit: forgets a process that has exited; for a container destroys cgroup and state
	MethodList       = "list"        // ListParams → ListResult (pages)
	MethodReopenLog  = "reopen_log"  // Process → nothing
	MethodAdopt      = "adopt"       // Adopt + fds → AdoptResult: take over a container of a supervisor that died
	MethodReportExit = "report_exit" // ReportExit → nothing: the daemon reaped an adopted process
	MethodUpgrade    = "upgrade"     // Upgrade → nothing; the connection stays, Hello again
	MethodWarm       = "warm"        // nothing → nothing: a start will follow soon
	MethodShutdown   = "shutdown"    // nothing → nothing; refused while there are containers
)

// Events that a supervisor sends with ID 0.
const (
	EventExit = "exit" // Exited; the exit file is already on disk
	EventOOM  = "oom"  // OOM
	// EventStdinClosed is a Process: its standard input has ended. The daemon closes the descriptor it holds of it, without
	// which the process would not see the end.
	EventStdinClosed = "stdin_closed"
)

// Message is one packet.
type Message struct {
	ID     uint64          `json:"id,omitempty"`
	Method string          `json:"method,omitempty"` // of a request or an event; empty in an answer
	Body   json.RawMessage `json:"body,omitempty"`
	Error  *Error          `json:"error,omitempty"`
	FDs    int             `json:"fds,omitempty"` // how many descriptors are attached
}

// Error is a failure that crosses the socket; Class is one of errdefs' classes ("not found", "already exists",
// "failed precondition", "invalid argument", "unavailable", "internal").
type Error struct {
	Class   string `json:"class"`
	Message string `json:"message"`
}

// Hello opens a connection.
type Hello struct {
	Version int    `json:"version"`
	Daemon  string `json:"daemon"` // the daemon's own name
	// Primary is the daemon's connection, which gets the events. There is one at a time; a new one replaces the old.
	Primary bool `json:"primary"`
}

// HelloResult tells who answers.
type HelloResult struct {
	Version    int    `json:"version"`
	Build      string `json:"build"`
	PID        int    `json:"pid"`
	Generation int    `json:"generation"` // how often it has re-executed itself in place
	Containers int    `json:"containers"`
}

// Process names a container's first process (no Exec) or one executed in it.
type Process struct {
	Namespace string `json:"ns"`
	ID        string `json:"id"`
	Exec      string `json:"exec,omitempty"`
}

// Log says where the bytes of stdout and stderr go.
type Log struct {
	Driver   string `json:"driver"` // json-file, cri, none
	Path     string `json:"path,omitempty"`
	MaxSize  int64  `json:"max_size,omitempty"`  // bytes; 0: no rotation by the supervisor
	MaxFiles int    `json:"max_files,omitempty"` // kept, the current one included
	MaxLine  int    `json:"max_line,omitempty"`  // bytes of a line in one entry; 0: logs.MaxLine
	Compress bool   `json:"compress,omitempty"`  // what is rotated
	// Attrs go along with each line of json-file.
	Attrs map[string]string `json:"attrs,omitempty"`
	// Logger, when set, gets all of it too.
	Logger *Logger `json:"logger,omitempty"`
}

// Logger is a program that gets the output of a container, by containerd's protocol of binary loggers (its package
// core/runtime/v2/logging): stdout is its descriptor 3, stderr 4; it closes 5, or writes to it, when it is ready; and its
// environment is CONTAINER_ID and CONTAINER_NAMESPACE.
type Logger struct {
	Path string   `json:"path"`
	Args []string `json:"args,omitempty"`
}

// Stdio says what the standard streams of a process are. Without a terminal they are named pipes in the process's
// directory (stdin, stdout, stderr), opened for reading and writing by the container, so that it never sees a broken
// pipe while no reader lives.
type Stdio struct {
	Terminal  bool   `json:"terminal,omitempty"`
	Stdin     bool   `json:"stdin,omitempty"`      // keep a standard input; otherwise it is /dev/null
	StdinOnce bool   `json:"stdin_once,omitempty"` // close it when the first attachment that has it ends
	Width     uint16 `json:"width,omitempty"`
	Height    uint16 `json:"height,omitempty"`
	Log       Log    `json:"log"`
}

// Attachment is one client's set of streams, in the order of the attached descriptors.
type Attachment struct {
	Stdin, Stdout, Stderr bool
	// Key makes the attachment known to a later detach; empty for none.
	Key string `json:"key,omitempty"`
}

// Start makes and starts a container from its bundle. Dir has config.json; the supervisor writes exit.json and the
// named pipes there and keeps libcontainer's state in Dir/state.
type Start struct {
	Process
	Dir           string `json:"dir"`
	SystemdCgroup bool   `json:"systemd_cgroup,omitempty"`
	NoPivot       bool   `json:"no_pivot,omitempty"`
	Runtime       string `json:"runtime,omitempty"` // path of an OCI runtime binary; empty: libcontainer in-process
	// RuntimeArgs come before each verb of that binary.
	RuntimeArgs []string `json:"runtime_args,omitempty"`
	// Patience is how long that binary may take for anything; 0: four minutes.
	Patience time.Duration `json:"patience,omitempty"`
	Stdio    Stdio         `json:"stdio"`
	// Attach, when set, is attached before the process starts; its fds come with the request.
	Attach *Attachment `json:"attach,omitempty"`
	// Restore is the directory of a checkpoint to start from.
	Restore        string `json:"restore,omitempty"`
	TCPEstablished bool   `json:"tcp_established,omitempty"`
}

// StartResult answers Start and Exec. FDs names the attached descriptors, which the daemon holds so that they outlive
// the supervisor: pidfd, stdin, stdout, stderr, pty.
type StartResult struct {
	PID         int               `json:"pid"`
	StartTime   uint64            `json:"start_time"` // field 22 of /proc/PID/stat, to tell a process from a later one with its number
	CgroupPaths map[string]string `json:"cgroup_paths,omitempty"`
	Warnings    []string          `json:"warnings,omitempty"`
	FDs         []string          `json:"fd_names,omitempty"`
	Created     time.Duration     `json:"created,omitempty"` // how long libcontainer took
}

// Exec starts a process in a running container. What it shall be is a runtime-spec Process document in Dir/process.json,
// or Spec.
type Exec struct {
	Process
	Dir    string      `json:"dir,omitempty"`
	Stdio  Stdio       `json:"stdio"`
	Attach *Attachment `json:"attach,omitempty"`
	// Spec is for a process that is of no use without the daemon that asks for it. It has no directory, so that it leaves no
	// record and no exit.json; the descriptors of Attach, no input among them, are its standard streams themselves; and it is
	// forgotten when its exit is told. At most MaxSpec bytes.
	Spec json.RawMessage `json:"spec,omitempty"`
}

// MaxSpec bounds Exec.Spec, so that the whole fits a packet.
const MaxSpec = 64 << 10

// Delete forgets a process that has exited. Dir, when set, is where to look for what is left of a container that the
// supervisor does not know: a start that was cut off by its death.
type Delete struct {
	Process
	Dir string `json:"dir,omitempty"`
}

// Signal sends a signal to a process, or to all of a container.
type Signal struct {
	Process
	Signal int  `json:"signal"`
	All    bool `json:"all,omitempty"`
}

// Resize sets a terminal's size in characters.
type Resize struct {
	Process
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// Attach joins a process's streams.
type Attach struct {
	Process
	Attachment
}

// Update changes a container's limits; Resources is a runtime-spec LinuxResources document.
type Update struct {
	Process
	Resources json.RawMessage `json:"resources"`
}

// Checkpoint writes a criu image of a container to Path.
type Checkpoint struct {
	Process
	Path           string `json:"path"`
	WorkPath       string `json:"work_path,omitempty"`
	LeaveRunning   bool   `json:"leave_running,omitempty"`
	TCPEstablished bool   `json:"tcp_established,omitempty"`
	FileLocks      bool   `json:"file_locks,omitempty"`
}

// Exit is how a process ended: written once, as exit.json in the process's directory, atomically and synced, before
// anyone is told.
type Exit struct {
	PID    int       `json:"pid"`
	Code   int       `json:"code"`             // 128+Signal when killed by one; 255 when lost
	Signal int       `json:"signal,omitempty"` // that killed it
	Time   time.Time `json:"time"`
	OOM    bool      `json:"oom,omitempty"`
	Reason string    `json:"reason,omitempty"` // "lost" with what is known, "" otherwise
}

// Exited is the body of EventExit.
type Exited struct {
	Process
	Exit Exit `json:"exit"`
}

// OOM is the body of EventOOM.
type OOM struct {
	Process
	Count uint64 `json:"count"`
}

// Entry is what a supervisor knows of one process.
type Entry struct {
	Process
	Dir         string            `json:"dir"`
	PID         int               `json:"pid"`
	StartTime   uint64            `json:"start_time"`
	State       string            `json:"state"` // running, paused, exited
	Exit        *Exit             `json:"exit,omitempty"`
	Stdio       Stdio             `json:"stdio"`
	CgroupPaths map[string]string `json:"cgroup_paths,omitempty"`
	// FDs names the descriptors that a daemon should hold for it; get them with MethodHold.
	Adopted bool `json:"adopted,omitempty"`
}

// MethodHold asks for duplicates of a process's descriptors, for a daemon that reconnects: Process → HoldResult + fds.
const MethodHold = "hold"

// HoldResult names the attached descriptors.
type HoldResult struct {
	FDs []string `json:"fd_names"`
}

// ListParams asks for one page.
type ListParams struct {
	After   string `json:"after,omitempty"`   // the Next of the page before
	Settled bool   `json:"settled,omitempty"` // wait, for some seconds, until what is being started is there
}

// ListResult is one page of entries, bounded so that it fits a packet.
type ListResult struct {
	Entries []Entry `json:"entries"`
	Next    string  `json:"next,omitempty"`
}

// Adopt hands a process of a dead supervisor to a new one. Start or Exec is its description as Entry has it; the
// attached descriptors are named by FDs (those the daemon held), and may be none: then the pipes are opened by name and
// the pidfd by number, checked against StartTime.
type Adopt struct {
	Entry
	FDs   []string `json:"fd_names,omitempty"`
	Child bool     `json:"child,omitempty"` // the daemon is its parent now and will report its exit
}

// AdoptResult says what was found.
type AdoptResult struct {
	State string `json:"state"`
	Exit  *Exit  `json:"exit,omitempty"`
}

// ReportExit gives the wait status of a process that the daemon reaped.
type ReportExit struct {
	Process
	PID    int `json:"pid"`
	Status int `json:"status"` // as wait4 gives it
}

// Upgrade replaces the supervisor's program by the one at Path, in the same process.
type Upgrade struct {
	Path string `json:"path"`
}
