// Command pulumi-resource-random serves the `random` package: HashiCorp's random provider,
// bridged to Pulumi by Pulumi's own bridge, under the tokens of the official package.
//
// The module's path is not this folder's: the provider is internal to its module, and only
// a path below that module's may import it.
package main

import (
	"context"
	"errors"
	"os"
	"strings"

	pf "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfgen"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-providers/terraform-provider-random/internal/provider"
)

// version is set by the linker to the version of the Python package it serves.
var version = "0.0.0-dev"

func main() {
	info := providerInfo()
	pf.Main(context.Background(), info.Name, info, pf.ProviderMetadata{
		XGetSchema: func(ctx context.Context, _ plugin.GetSchemaRequest) ([]byte, error) { return schema(ctx, info) },
	})
}

func providerInfo() tfbridge.ProviderInfo {
	return tfbridge.ProviderInfo{
		Name:        "random",
		P:           pf.ShimProvider(provider.New()),
		Version:     version,
		Description: "A Pulumi package to safely use randomness in Pulumi programs.",
		Keywords:    []string{"pulumi", "random"},
		License:     "Apache-2.0",
		// The bridge keeps what it learned while generating an SDK here; nothing was generated.
		MetadataInfo: tfbridge.NewProviderMetadata(nil),
		Resources: map[string]*tfbridge.ResourceInfo{
			"random_bytes":    {Tok: token("RandomBytes"), ComputeID: bytesID},
			"random_id":       {Tok: token("RandomId")},
			"random_integer":  {Tok: token("RandomInteger")},
			"random_password": {Tok: token("RandomPassword")},
			"random_pet":      {Tok: token("RandomPet")},
			"random_shuffle":  {Tok: token("RandomShuffle")},
			"random_string":   {Tok: token("RandomString")},
			"random_uuid":     {Tok: token("RandomUuid")},
			"random_uuid4":    {Tok: token("RandomUuid4")},
			"random_uuid7":    {Tok: token("RandomUuid7")},
		},
	}
}

func token(name string) tokens.Type {
	return tokens.Type("random:index/" + strings.ToLower(name[:1]) + name[1:] + ":" + name)
}

// bytesID names RandomBytes by its value, secret or not, as the official package does:
// it is the one resource whose provider gives it no id.
func bytesID(_ context.Context, state resource.PropertyMap) (resource.ID, error) {
	value := state["base64"]
	for value.IsSecret() {
		value = value.SecretValue().Element
	}
	if !value.IsString() || value.StringValue() == "" {
		return "", errors.New("the provider returned no base64")
	}
	return resource.ID(value.StringValue()), nil
}

// schema derives the package's schema from the provider. Deriving takes over a second and no update asks for it,
// so it is done only when somebody does.
func schema(ctx context.Context, info tfbridge.ProviderInfo) ([]byte, error) {
	quiet := diag.DefaultSink(os.Stderr, os.Stderr, diag.FormatOptions{Color: colors.Never})
	generated, err := tfgen.GenerateSchema(ctx, tfgen.GenerateSchemaOptions{
		ProviderInfo: info, DiagnosticsSink: quiet, XInMemoryDocs: true,
	})
	if err != nil {
		return nil, err
	}
	return generated.ProviderMetadata.PackageSchema, nil
}
