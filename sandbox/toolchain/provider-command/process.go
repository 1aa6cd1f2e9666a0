//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
)

const (
	noAssets = "this stand-in does not collect files; write them where a later command can read them, " +
		"or install the official command plugin"
	// tailLines is how much of a failed command's output its error repeats.
	tailLines = 20
)

// killAfter is how long a cancelled command may take to clean up.
var killAfter = 5 * time.Second

// Process is what the resource and the function have in common: how to start a command.
type Process struct {
	Interpreter            *[]string          `pulumi:"interpreter,optional"`
	Dir                    *string            `pulumi:"dir,optional"`
	Environment            *map[string]string `pulumi:"environment,optional"`
	Stdin                  *string            `pulumi:"stdin,optional"`
	Logging                *Logging           `pulumi:"logging,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
	AssetPaths             *[]string          `pulumi:"assetPaths,optional"`
	ArchivePaths           *[]string          `pulumi:"archivePaths,optional"`
}

// Annotate sets the default that the official provider also writes into the inputs.
func (c *Process) Annotate(a infer.Annotator) { a.SetDefault(&c.AddPreviousOutputInEnv, true) }

// Printed is what a command wrote, each stream without its last line break.
type Printed struct {
	Stdout string `pulumi:"stdout"`
	Stderr string `pulumi:"stderr"`
}

// Logging says which streams the engine shows while a command runs.
type Logging string

// Annotate gives the type its official token.
func (l *Logging) Annotate(a infer.Annotator) { a.SetToken("local", "Logging") }

// Values are those of the official provider.
func (Logging) Values() []infer.EnumValue[Logging] {
	return []infer.EnumValue[Logging]{
		{Name: "Stdout", Value: "stdout"},
		{Name: "Stderr", Value: "stderr"},
		{Name: "StdoutAndStderr", Value: "stdoutAndStderr"},
		{Name: "None", Value: "none"},
	}
}

func (l *Logging) shows(stream string) bool {
	return l == nil || *l == "stdoutAndStderr" || string(*l) == stream
}

// execute runs a command to its end. No command is no work: what was printed before stays.
func (c Process) execute(ctx context.Context, step string, command *string, previous Printed) (Printed, error) {
	if command == nil {
		return previous, nil
	}
	argv := append(c.interpreter(), *command)
	process := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // running commands is its purpose
	process.Env = c.environment(previous)
	if c.Dir != nil {
		process.Dir = *c.Dir
	}
	if c.Stdin != nil {
		process.Stdin = strings.NewReader(*c.Stdin)
	}

	// A shell's children must end with it, so they form a group that is signalled as one.
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var kill *time.Timer
	process.Cancel = func() error {
		group := -process.Process.Pid
		kill = time.AfterFunc(killAfter, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		return syscall.Kill(group, syscall.SIGTERM)
	}

	secrets := secretsOf(ctx)
	var lock sync.Mutex
	var stdout, stderr, tail bytes.Buffer
	show := p.GetLogger(ctx).InfoStatus
	out := &stream{all: &stdout, tail: &tail, lock: &lock, hide: secrets.hide}
	errs := &stream{all: &stderr, tail: &tail, lock: &lock, hide: secrets.hide}
	if c.Logging.shows("stdout") {
		out.show = show
	}
	if c.Logging.shows("stderr") {
		errs.show = show
	}
	process.Stdout, process.Stderr = out, errs

	err := process.Run()
	if kill != nil {
		kill.Stop()
		_ = syscall.Kill(-process.Process.Pid, syscall.SIGKILL) // whoever ignored the first signal
	}
	out.flush()
	errs.flush()
	if err != nil {
		return previous, errors.New(explain(ctx, step, process, err, secrets.hide) + lastLines(tail.String()))
	}
	return Printed{Stdout: trim(stdout.String()), Stderr: trim(stderr.String())}, nil
}

func (c Process) interpreter() []string {
	if c.Interpreter != nil && len(*c.Interpreter) > 0 {
		return append([]string{}, *c.Interpreter...)
	}
	return []string{"/bin/sh", "-c"}
}

func (c Process) environment(previous Printed) []string {
	env := os.Environ()
	if c.Environment != nil {
		for name, value := range *c.Environment {
			env = append(env, name+"="+value)
		}
	}
	if c.AddPreviousOutputInEnv == nil || *c.AddPreviousOutputInEnv {
		if previous.Stdout != "" {
			env = append(env, "PULUMI_COMMAND_STDOUT="+previous.Stdout)
		}
		if previous.Stderr != "" {
			env = append(env, "PULUMI_COMMAND_STDERR="+previous.Stderr)
		}
	}
	return env
}

func explain(ctx context.Context, step string, process *exec.Cmd, err error, hide func(string) string) string {
	var exit *exec.ExitError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("the %s command was stopped: it ran longer than the resource's custom timeout", step)
	case ctx.Err() != nil:
		return fmt.Sprintf("the %s command was stopped because the update was cancelled", step)
	case errors.As(err, &exit) && exit.Exited():
		return fmt.Sprintf("the %s command ended with exit code %d", step, exit.ExitCode())
	case errors.As(err, &exit):
		return fmt.Sprintf("the %s command was ended by a signal (%s)", step, exit)
	}
	if process.Dir != "" {
		if info, statErr := os.Stat(process.Dir); statErr != nil || !info.IsDir() {
			return fmt.Sprintf("the %s command's dir %q is not a folder", step, hide(process.Dir))
		}
	}
	return fmt.Sprintf("the %s command could not be started: %s; set `interpreter` to a program that exists here",
		step, hide(err.Error()))
}

func lastLines(output string) string {
	output = strings.TrimSpace(output)
	if output == "" {
		return "; it printed nothing"
	}
	lines := strings.Split(output, "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return "; the last it printed:\n" + strings.Join(lines, "\n")
}

func trim(text string) string { return strings.TrimSuffix(text, "\n") }

// stream keeps what is written and passes whole lines on, so that two streams do not mix within a line.
type stream struct {
	all  *bytes.Buffer
	tail *bytes.Buffer
	lock *sync.Mutex
	line []byte
	show func(string)
	hide func(string) string
}

func (s *stream) Write(chunk []byte) (int, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.all.Write(chunk)
	s.line = append(s.line, chunk...)
	for {
		end := bytes.IndexByte(s.line, '\n')
		if end < 0 {
			return len(chunk), nil
		}
		s.pass(string(s.line[:end]))
		s.line = s.line[end+1:]
	}
}

func (s *stream) flush() {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.line) > 0 {
		s.pass(string(s.line))
		s.line = nil
	}
}

func (s *stream) pass(line string) {
	line = s.hide(line)
	s.tail.WriteString(line + "\n")
	if s.show != nil {
		s.show(line)
	}
}
