#!/usr/bin/env bash
# Commits and pushes the stack file that a command changed. Usage: push-stack-file.sh STACK WHAT
# Fails when the push is refused for good: the branch then lacks what the stack runs.
set -euo pipefail
stack=$1 what=$2
file="Pulumi.$stack.yaml"
if git diff --quiet -- "$file"; then
    echo "$file was not changed."
    exit 0
fi
git config user.name "$what"
git config user.email "$what@users.noreply.github.com"
git commit --quiet --message "$stack: $what" -- "$file"
for _ in 1 2 3; do
    if git push --quiet; then
        exit 0
    fi
    # Another one pushed first. A conflict in the stack file ends here: a person has to look.
    git pull --quiet --rebase
done
echo "::error::$file could not be pushed. Its newest content: pulumi config refresh --force --stack $stack" >&2
exit 1
