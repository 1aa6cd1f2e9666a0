package kube

import (
	"errors"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
)

// IsGone reports whether an error means that the object, or its whole kind, does not exist.
func IsGone(err error) bool {
	return apierrors.IsNotFound(err) || meta.IsNoMatchError(err)
}

// MissingNamespace returns the name of the namespace whose absence made a request fail.
func MissingNamespace(err error) (string, bool) {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return "", false
	}
	details := status.Status().Details
	if details == nil || details.Kind != "namespaces" || details.Name == "" {
		return "", false
	}
	return details.Name, true
}

// The API server has no reason code for "this can never be changed"; its words are stable, though.
var immutableWords = regexp.MustCompile(
	`(?i)immutable|may not (be )?change|can ?not (be )?change|updates to .* are forbidden`)

// ImmutableFields returns the fields because of which an update was refused for good, if that was the only reason.
func ImmutableFields(err error) []string {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		if !immutableWords.MatchString(cause.Message) {
			return nil
		}
		fields = append(fields, cause.Field)
	}
	return fields
}
