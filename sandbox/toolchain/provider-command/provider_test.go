package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

type object = map[string]property.Value

func text(value string) property.Value   { return property.New(value) }
func secret(value string) property.Value { return property.New(value).WithSecret(true) }

func list(items ...string) property.Value {
	values := make([]property.Value, len(items))
	for i, item := range items {
		values[i] = text(item)
	}
	return property.New(values)
}

func serve(t *testing.T) integration.Server {
	t.Helper()
	provider, err := newProvider()
	if err != nil {
		t.Fatal(err)
	}
	server, err := integration.NewServer(t.Context(), "command", semver.MustParse("1.2.1"), integration.WithProvider(provider))
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func urn(kind string) resource.URN {
	return resource.NewURN("stack", "project", "", tokens.Type("command:"+kind), "it")
}

// create runs Check and Create as the engine would.
func create(t *testing.T, server integration.Server, inputs object) (p.CreateResponse, error) {
	t.Helper()
	checked := check(t, server, inputs)
	return server.Create(p.CreateRequest{Urn: urn("local:Command"), Properties: checked})
}

func check(t *testing.T, server integration.Server, inputs object) property.Map {
	t.Helper()
	resp, err := server.Check(p.CheckRequest{Urn: urn("local:Command"), Inputs: property.NewMap(inputs)})
	if err != nil || len(resp.Failures) > 0 {
		t.Fatalf("check: %v %v", err, resp.Failures)
	}
	return resp.Inputs
}

func mustCreate(t *testing.T, server integration.Server, inputs object) property.Map {
	t.Helper()
	resp, err := create(t, server, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Properties
}

func wantText(t *testing.T, state property.Map, key, want string) {
	t.Helper()
	if got := state.Get(key); !got.IsString() || got.AsString() != want {
		t.Errorf("%s is %#v, want %q", key, got, want)
	}
}

func TestCreateUsesDirEnvironmentStdinAndInterpreter(t *testing.T) {
	dir := t.TempDir()
	state := mustCreate(t, serve(t), object{
		"create":      text(`printf '%s|%s|%s\n\n' "$(pwd)" "$GREETING" "$(cat)"; echo oops >&2`),
		"dir":         text(dir),
		"environment": property.New(object{"GREETING": text("hello")}),
		"stdin":       text("from stdin"),
		"interpreter": list("/bin/sh", "-e", "-c"),
	})
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, state, "stdout", real+"|hello|from stdin\n") // one line break less than printed
	wantText(t, state, "stderr", "oops")
}

func TestCommandsSeeWhatWasPrintedBefore(t *testing.T) {
	server := serve(t)
	inputs := object{
		"create": text(`echo "created ${PULUMI_COMMAND_STDOUT:-first}"`),
		"update": text(`echo "updated after: $PULUMI_COMMAND_STDOUT"`),
		"delete": text(`echo "$PULUMI_COMMAND_STDOUT" > "$OUT"`),
	}
	out := filepath.Join(t.TempDir(), "deleted")
	inputs["environment"] = property.New(object{"OUT": text(out)})
	state := mustCreate(t, server, inputs)
	wantText(t, state, "stdout", "created first")

	resp, err := server.Update(p.UpdateRequest{
		ID: "it", Urn: urn("local:Command"), State: state, Inputs: check(t, server, inputs),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, resp.Properties, "stdout", "updated after: created first")

	if err := server.Delete(p.DeleteRequest{ID: "it", Urn: urn("local:Command"), Properties: resp.Properties}); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(out)
	if err != nil || string(written) != "updated after: created first\n" {
		t.Errorf("delete wrote %q, %v", written, err)
	}
}

func TestPreviousOutputCanBeKeptOut(t *testing.T) {
	server := serve(t)
	inputs := object{
		"create":                 text(`echo "[$PULUMI_COMMAND_STDOUT]"`),
		"addPreviousOutputInEnv": property.New(false),
	}
	state := mustCreate(t, server, inputs)
	resp, err := server.Update(p.UpdateRequest{
		ID: "it", Urn: urn("local:Command"), State: state, Inputs: check(t, server, inputs),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, resp.Properties, "stdout", "[]") // without an update command, create runs again
}

func TestPreviewRunsNothingAndLeavesOutputUnknown(t *testing.T) {
	server := serve(t)
	file := filepath.Join(t.TempDir(), "made")
	inputs := check(t, server, object{"create": text("touch " + file)})
	resp, err := server.Create(p.CreateRequest{Urn: urn("local:Command"), Properties: inputs, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if !resp.Properties.Get("stdout").IsComputed() {
		t.Errorf("stdout is %#v in a preview", resp.Properties.Get("stdout"))
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the preview ran the command")
	}
}

func TestSecretInputMakesOutputSecret(t *testing.T) {
	state := mustCreate(t, serve(t), object{
		"create":      text(`echo "$TOKEN"`),
		"environment": property.New(object{"TOKEN": secret("s3cret-value")}),
	})
	for _, key := range []string{"stdout", "stderr", "environment"} {
		if !state.Get(key).HasSecrets() {
			t.Errorf("%s is not secret", key)
		}
	}
	if state.Get("create").HasSecrets() {
		t.Error("create became secret although it is not")
	}
	plain := mustCreate(t, serve(t), object{"create": text("echo plain")})
	if plain.Get("stdout").HasSecrets() {
		t.Error("stdout is secret without a secret input")
	}
}

func TestFailureNamesExitCodeAndLastLinesButNoSecret(t *testing.T) {
	_, err := create(t, serve(t), object{
		"create":      text(`echo "$TOKEN" >&2; echo "password is $TOKEN"; seq 1 40 | sed 's/^/line /'; echo "$TOKEN"; exit 7`),
		"environment": property.New(object{"TOKEN": secret("s3cret-value\nsecond-half")}),
	})
	if err == nil {
		t.Fatal("no error")
	}
	message := err.Error()
	for _, part := range []string{"create command ended with exit code 7", "line 40", "[secret]"} {
		if !strings.Contains(message, part) {
			t.Errorf("no %q in: %s", part, message)
		}
	}
	for _, part := range []string{"s3cret", "second-half", "line 1\n"} {
		if strings.Contains(message, part) {
			t.Errorf("%q in: %s", part, message)
		}
	}
}

func TestFailureToStartSaysWhat(t *testing.T) {
	for want, inputs := range map[string]object{
		`dir "/nowhere/at/all" is not a folder`: {"create": text("true"), "dir": text("/nowhere/at/all")},
		"set `interpreter` to a program":        {"create": text("true"), "interpreter": list("/no/such/shell")},
		"ended by a signal":                     {"create": text("kill -9 $$")},
	} {
		if _, err := create(t, serve(t), inputs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestCancelEndsTheWholeGroup(t *testing.T) {
	server := serve(t)
	killAfter = 500 * time.Millisecond
	file := filepath.Join(t.TempDir(), "alive")
	// A grandchild that ignores the polite signal and would leave a file behind.
	script := `(trap '' TERM; : > "$FILE.started"; while :; do sleep 0.1; done; ) & wait`
	inputs := check(t, server, object{
		"create":      text(script),
		"environment": property.New(object{"FILE": text(file)}),
	})
	failed := make(chan error, 1)
	go func() {
		_, err := server.Create(p.CreateRequest{Urn: urn("local:Command"), Properties: inputs})
		failed <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(file + ".started"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the command did not start")
		}
	}
	if err := server.Cancel(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("cancelled command returned %v", err)
		}
	case <-time.After(2*killAfter + 5*time.Second):
		t.Fatal("the command outlived its cancellation")
	}
}

func TestTimeoutEndsTheCommand(t *testing.T) {
	server := serve(t)
	inputs := check(t, server, object{"create": text("exec sleep 60")})
	_, err := server.Create(p.CreateRequest{Urn: urn("local:Command"), Properties: inputs, Timeout: 1})
	if err == nil || !strings.Contains(err.Error(), "longer than the resource's custom timeout") {
		t.Errorf("got %v", err)
	}
}

func TestDiff(t *testing.T) {
	server := serve(t)
	old := object{"create": text("true"), "triggers": list("a")}
	for name, test := range map[string]struct {
		change  object
		changes bool
		replace bool
	}{
		"nothing":                 {object{}, false, false},
		"another create command":  {object{"create": text("echo")}, true, false},
		"trigger changed":         {object{"triggers": list("b")}, true, true},
		"trigger added":           {object{"triggers": list("a", "b")}, true, true},
		"trigger unknown":         {object{"triggers": property.New([]property.Value{property.New(property.Computed)})}, true, true},
		"trigger with an update":  {object{"triggers": list("b"), "update": text("true")}, true, false},
		"triggers become secret":  {object{"triggers": list("b").WithSecret(true)}, true, true},
		"environment is replaced": {object{"environment": property.New(object{"A": text("b")})}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			news := object{}
			for _, values := range []object{old, test.change} {
				for key, value := range values {
					news[key] = value
				}
			}
			olds := check(t, server, old)
			state := olds.Set("stdout", text("")).Set("stderr", text(""))
			resp, err := server.Diff(p.DiffRequest{
				ID: "it", Urn: urn("local:Command"), State: state, OldInputs: olds, Inputs: check(t, server, news),
			})
			if err != nil {
				t.Fatal(err)
			}
			replace := false
			for _, change := range resp.DetailedDiff {
				replace = replace || strings.HasSuffix(string(change.Kind), "&replace")
			}
			if resp.HasChanges != test.changes || replace != test.replace {
				t.Errorf("changes %v, replace %v: %v", resp.HasChanges, replace, resp.DetailedDiff)
			}
		})
	}
}

func TestRunFunction(t *testing.T) {
	resp, err := serve(t).Invoke(p.InvokeRequest{Token: "command:local:run", Args: property.NewMap(object{
		"command": text("cat"), "stdin": secret("hidden"),
	})})
	if err != nil {
		t.Fatal(err)
	}
	stdout := resp.Return.Get("stdout")
	if stdout.AsString() != "hidden" || !stdout.Secret() {
		t.Errorf("stdout is %#v", stdout)
	}
	_, err = serve(t).Invoke(p.InvokeRequest{Token: "command:local:run", Args: property.NewMap(object{
		"command": text("echo reason: $TOKEN; exit 3"),
		// Not marked as secret: an SDK does not tell.
		"environment": property.New(object{"TOKEN": text("s3cret-value")}),
	})})
	if err == nil || !strings.Contains(err.Error(), "exit code 3") || !strings.Contains(err.Error(), "reason: [secret]") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNotHereSaysSo(t *testing.T) {
	server := serve(t)
	_, err := server.Check(p.CheckRequest{Urn: urn("remote:Command"), Inputs: property.NewMap(object{})})
	if err == nil || !strings.Contains(err.Error(), "needs the official plugin") {
		t.Errorf("remote: %v", err)
	}
	resp, err := server.Check(p.CheckRequest{Urn: urn("local:Command"), Inputs: property.NewMap(object{
		"create": text("true"), "assetPaths": list("*"),
	})})
	if err != nil || len(resp.Failures) != 1 || resp.Failures[0].Property != "assetPaths" {
		t.Errorf("assets: %v %v", resp.Failures, err)
	}
	if _, err := server.GetSchema(p.GetSchemaRequest{}); err != nil {
		t.Errorf("schema: %v", err)
	}
}

func TestLoggingChoosesStreamsAndHidesSecrets(t *testing.T) {
	only := Logging("stderr")
	var none *Logging
	if only.shows("stdout") || !only.shows("stderr") || !none.shows("stdout") {
		t.Error("logging shows the wrong streams")
	}
	ctx := withSecrets(context.Background(), property.NewMap(object{
		"environment": property.New(object{"A": secret("abc"), "B": secret("abcdef"), "C": text("public")}),
	}))
	if got := secretsOf(ctx).hide("abcdef abc public"); got != "[secret] [secret] public" {
		t.Errorf("hidden: %s", got)
	}
}
