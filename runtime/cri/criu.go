package cri

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"
)

// criuTimeout bounds "criu check", which tries the kernel's features out.
const criuTimeout = 20 * time.Second

// checkCRIU says whether checkpoints can be made here at all; an error of class ErrFailedPrecondition says what is missing.
func checkCRIU(ctx context.Context) error {
	path, err := exec.LookPath("criu")
	if err != nil {
		return unable("checkpoints need the program criu, and it is not in $PATH: install it")
	}
	ctx, cancel := context.WithTimeout(ctx, criuTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "check").CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.TrimSpace(string(out))
	if failed := (*exec.ExitError)(nil); !errors.As(err, &failed) || said == "" {
		said = err.Error()
	}
	return unable("checkpoints need criu, and it says that this kernel lacks something: %.2000s", said)
}
