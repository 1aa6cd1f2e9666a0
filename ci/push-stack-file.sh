#!/usr/bin/env bash
# Commits and pushes the stack file that a command changed. Usage: ci/push-stack-file.sh STACK WHAT BRANCH
# Fails when the push is refused for good: the branch then lacks what the stack runs. The commit is then kept on the
# branch runbook/STACK, for a pull request.
set -euo pipefail
stack=$1 what=$2 branch=$3
file="Pulumi.$stack.yaml"
if git diff --quiet -- "$file"; then
    echo "$file was not changed."
    exit 0
fi
git config user.name "$what"
git config user.email "$what@users.noreply.invalid"
git commit --quiet --message "$stack: $what" -- "$file"
for _ in 1 2 3; do
    if git push --quiet origin "HEAD:$branch"; then
        exit 0
    fi
    # Another one pushed first. A conflict in the stack file ends here: a person has to look.
    if ! git pull --quiet --rebase origin "$branch"; then
        git rebase --abort
        break
    fi
done
echo "::error::$file was not pushed to $branch: the branch lacks what $stack runs now." >&2
if git push --quiet --force origin "HEAD:runbook/$stack"; then
    echo "The commit is on the branch runbook/$stack: open a pull request from it, and merge it before the next release." >&2
else
    echo "Restore the file with: pulumi config refresh --force --stack $stack, and commit it." >&2
fi
exit 1
