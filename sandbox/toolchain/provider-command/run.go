package main

import (
	"context"
	"errors"

	"github.com/pulumi/pulumi-go-provider/infer"
)

// Run is command:local:run: a command that runs on every preview and every update.
type Run struct{}

// RunInputs are the function's arguments.
type RunInputs struct {
	Process
	Command string `pulumi:"command"`
}

// RunOutputs are its arguments again and what the command printed.
type RunOutputs struct {
	RunInputs
	Printed
}

// Annotate gives the function its official token.
func (r *Run) Annotate(a infer.Annotator) { a.SetToken("local", "run") }

// Invoke runs the command.
func (*Run) Invoke(
	ctx context.Context, req infer.FunctionRequest[RunInputs],
) (infer.FunctionResponse[RunOutputs], error) {
	if req.Input.AssetPaths != nil || req.Input.ArchivePaths != nil {
		return infer.FunctionResponse[RunOutputs]{}, errors.New("assetPaths, archivePaths: " + noAssets)
	}
	printed, err := req.Input.execute(ctx, "run", &req.Input.Command, Printed{})
	return infer.FunctionResponse[RunOutputs]{Output: RunOutputs{req.Input, printed}}, err
}

// WireDependencies makes what the command prints as secret as the most secret of its arguments.
func (*Run) WireDependencies(f infer.FieldSelector, args *RunInputs, state *RunOutputs) {
	mirror(f, &args.Process, &state.Process)
	f.OutputField(&state.Command).DependsOn(f.InputField(&args.Command))
	f.OutputField(&state.Stdout).DependsOn(f.InputField(args))
	f.OutputField(&state.Stderr).DependsOn(f.InputField(args))
}
