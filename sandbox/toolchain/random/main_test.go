package main

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// What the Python package expects of its plugin: these tokens, these properties, these secrets.
func TestSchemaFitsTheOfficialPackage(t *testing.T) {
	described, err := schema(t.Context(), providerInfo())
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Name      string
		Resources map[string]struct {
			Properties map[string]struct{ Secret bool }
			Required   []string
		}
	}
	if err := json.Unmarshal(described, &spec); err != nil {
		t.Fatal(err)
	}
	if spec.Name != "random" {
		t.Errorf("the package is %q", spec.Name)
	}
	secrets := map[string][]string{
		"random:index/randomBytes:RandomBytes":       {"base64", "hex"},
		"random:index/randomId:RandomId":             nil,
		"random:index/randomInteger:RandomInteger":   nil,
		"random:index/randomPassword:RandomPassword": {"bcryptHash", "result"},
		"random:index/randomPet:RandomPet":           nil,
		"random:index/randomShuffle:RandomShuffle":   nil,
		"random:index/randomString:RandomString":     nil,
		"random:index/randomUuid4:RandomUuid4":       nil,
		"random:index/randomUuid7:RandomUuid7":       nil,
		"random:index/randomUuid:RandomUuid":         nil,
	}
	for token := range spec.Resources {
		if _, known := secrets[token]; !known {
			t.Errorf("%s is in the schema but not in the official package", token)
		}
	}
	for token, wanted := range secrets {
		resource, known := spec.Resources[token]
		if !known {
			t.Errorf("%s is missing", token)
			continue
		}
		if _, has := resource.Properties["keepers"]; !has {
			t.Errorf("%s has no keepers", token)
		}
		for name, property := range resource.Properties {
			if property.Secret != slices.Contains(wanted, name) {
				t.Errorf("%s.%s: secret is %v", token, name, property.Secret)
			}
		}
	}
}

func TestBytesAreNamedByTheirValue(t *testing.T) {
	secret := resource.MakeSecret(resource.NewProperty("AAEC"))
	id, err := bytesID(t.Context(), resource.PropertyMap{"base64": secret})
	if err != nil || id != "AAEC" {
		t.Errorf("%q, %v", id, err)
	}
	if _, err := bytesID(t.Context(), resource.PropertyMap{}); err == nil {
		t.Error("bytes without a value got an id")
	}
}
