"""What the pipelines of GitHub and GitLab run: set-up, previews as comments, drift as an issue."""
