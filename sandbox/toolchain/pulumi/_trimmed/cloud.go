// Package cloud takes the place of the engine's secrets providers for AWS, Azure, Google Cloud and Vault.
package cloud

import (
	"encoding/json"
	"errors"

	"github.com/pulumi/pulumi/pkg/v3/secrets"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
)

// Type is what the state of a stack calls these providers.
const Type = "cloud"

var errNotBuilt = errors.New(
	"this engine was built without the secrets providers of clouds; use `passphrase`, or an official engine on PATH")

// EditProjectStack refuses.
func EditProjectStack(*workspace.ProjectStack, json.RawMessage) error { return errNotBuilt }

// NewCloudSecretsManagerFromState refuses.
func NewCloudSecretsManagerFromState(json.RawMessage) (secrets.Manager, error) { return nil, errNotBuilt }

// NewCloudSecretsManager refuses.
func NewCloudSecretsManager(*workspace.ProjectStack, string, bool) (secrets.Manager, error) {
	return nil, errNotBuilt
}
