package main

import (
	"context"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Command is command:local:Command: one command when the resource is created, one when it
// changes, one when it goes.
type Command struct{}

// CommandInputs are the resource's properties that a program sets.
type CommandInputs struct {
	Process
	Triggers *[]any  `pulumi:"triggers,optional"`
	Create   *string `pulumi:"create,optional"`
	Update   *string `pulumi:"update,optional"`
	Delete   *string `pulumi:"delete,optional"`
}

// CommandState is what the stack keeps: the inputs and what the last command printed.
type CommandState struct {
	CommandInputs
	Printed
}

// Annotate gives the resource its official token.
func (c *Command) Annotate(a infer.Annotator) { a.SetToken("local", "Command") }

// Check refuses what the stand-in cannot do before anything is run.
func (*Command) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[CommandInputs], error) {
	inputs, failures, err := infer.DefaultCheck[CommandInputs](ctx, req.NewInputs)
	for _, name := range []string{"assetPaths", "archivePaths"} {
		if _, given := req.NewInputs.GetOk(name); given {
			failures = append(failures, p.CheckFailure{Property: name, Reason: noAssets})
		}
	}
	return infer.CheckResponse[CommandInputs]{Inputs: inputs, Failures: failures}, err
}

// Create runs the create command, if there is one.
func (*Command) Create(
	ctx context.Context, req infer.CreateRequest[CommandInputs],
) (infer.CreateResponse[CommandState], error) {
	state := CommandState{CommandInputs: req.Inputs}
	id, err := resource.NewUniqueHex(req.Name, 8, 0)
	if err == nil && !req.DryRun {
		state.Printed, err = state.execute(ctx, "create", req.Inputs.Create, state.Printed)
	}
	return infer.CreateResponse[CommandState]{ID: id, Output: state}, err
}

// Update runs the update command or, without one, the create command again.
func (*Command) Update(
	ctx context.Context, req infer.UpdateRequest[CommandInputs, CommandState],
) (infer.UpdateResponse[CommandState], error) {
	state := CommandState{CommandInputs: req.Inputs, Printed: req.State.Printed}
	var err error
	switch {
	case req.DryRun:
	case req.Inputs.Update != nil:
		state.Printed, err = state.execute(ctx, "update", req.Inputs.Update, state.Printed)
	default:
		state.Printed, err = state.execute(ctx, "create", req.Inputs.Create, state.Printed)
	}
	return infer.UpdateResponse[CommandState]{Output: state}, err
}

// Delete runs the delete command, if there is one.
func (*Command) Delete(ctx context.Context, req infer.DeleteRequest[CommandState]) (infer.DeleteResponse, error) {
	_, err := req.State.execute(ctx, "delete", req.State.Delete, req.State.Printed)
	return infer.DeleteResponse{}, err
}

// WireDependencies makes what a command prints as secret as the most secret of its inputs.
func (*Command) WireDependencies(f infer.FieldSelector, args *CommandInputs, state *CommandState) {
	mirror(f, &args.Process, &state.Process)
	f.OutputField(&state.Triggers).DependsOn(f.InputField(&args.Triggers))
	f.OutputField(&state.CommandInputs.Create).DependsOn(f.InputField(&args.Create))
	f.OutputField(&state.CommandInputs.Update).DependsOn(f.InputField(&args.Update))
	f.OutputField(&state.CommandInputs.Delete).DependsOn(f.InputField(&args.Delete))
	f.OutputField(&state.Stdout).DependsOn(f.InputField(args))
	f.OutputField(&state.Stderr).DependsOn(f.InputField(args))
}

// mirror wires every property of a process to the one of the same name.
func mirror(f infer.FieldSelector, in, out *Process) {
	f.OutputField(&out.Interpreter).DependsOn(f.InputField(&in.Interpreter))
	f.OutputField(&out.Dir).DependsOn(f.InputField(&in.Dir))
	f.OutputField(&out.Environment).DependsOn(f.InputField(&in.Environment))
	f.OutputField(&out.Stdin).DependsOn(f.InputField(&in.Stdin))
	f.OutputField(&out.Logging).DependsOn(f.InputField(&in.Logging))
	f.OutputField(&out.AddPreviousOutputInEnv).DependsOn(f.InputField(&in.AddPreviousOutputInEnv))
}
