// Package gcsblob takes the place of the storage driver for Google Cloud.
package gcsblob

// Scheme is how the URL of such a backend begins; authhelpers refuses it.
const Scheme = "gs"
