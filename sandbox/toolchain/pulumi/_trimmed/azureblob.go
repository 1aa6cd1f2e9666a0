// Package azureblob takes the place of the storage driver for Azure; without it nothing opens azblob:// URLs.
package azureblob
