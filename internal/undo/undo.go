// Package undo is a stack of clean-ups for an operation of several steps: each step that succeeded adds its reverse,
// and a failure runs them. Things with a record do not need it: their undo is their ordinary remove.
package undo

import (
	"context"
	"errors"
	"time"
)

// Timeout is how long the steps of one Run may take together.
const Timeout = 30 * time.Second

// Stack holds clean-ups. The zero value is ready; it is not for several goroutines at once.
//
//	var u undo.Stack
//	defer func() {
//		if err != nil {
//			err = errors.Join(err, u.Run(ctx))
//		}
//	}()
type Stack struct {
	steps []func(context.Context) error
}

// Add puts a clean-up on top.
func (s *Stack) Add(step func(context.Context) error) { s.steps = append(s.steps, step) }

// Run calls the clean-ups, the last one added first, all of them whatever fails, and joins their errors. They get a
// context that ctx's cancellation does not reach and that ends after Timeout. The stack is empty afterwards.
func (s *Stack) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		errs = append(errs, s.steps[i](ctx))
	}
	s.steps = nil
	return errors.Join(errs...)
}

// Disarm forgets the clean-ups: the operation has succeeded.
func (s *Stack) Disarm() { s.steps = nil }
