#!/usr/bin/env bash
# Previews a stack, and keeps one comment per stack on the pull request up to date.
# Usage: preview.sh STACK REPOSITORY PULL_REQUEST; ends as the preview ends.
set -euo pipefail
stack=$1 repository=$2 pull_request=$3
marker="<!-- preview of $stack -->"
limit=60000 # characters; a comment takes 65,536

code=0
pulumi preview --stack "$stack" --diff --non-interactive --color never > preview.txt 2>&1 || code=$?
outcome="succeeded"
[ "$code" = 0 ] || outcome="**failed** (exit code $code)"
cat preview.txt
cat preview.txt >> "${GITHUB_STEP_SUMMARY:-/dev/null}"

{
    echo "$marker"
    echo "### \`pulumi preview\` of $stack $outcome"
    echo '~~~~'
    python3 -c 'import sys; text = sys.stdin.read(); limit = int(sys.argv[1])
print(text if len(text) <= limit else text[:limit] + "\n… cut here; the whole preview is in the summary of the run.")' "$limit" < preview.txt
    echo '~~~~'
} > comment.md

find="[.[] | select(.body | startswith(\"$marker\"))][0].id // empty"
known=$(gh api --paginate "repos/$repository/issues/$pull_request/comments" --jq "$find" | head -n 1)
if [ -n "$known" ]; then
    gh api --method PATCH "repos/$repository/issues/comments/$known" --field body=@comment.md > /dev/null
else
    gh api --method POST "repos/$repository/issues/$pull_request/comments" --field body=@comment.md > /dev/null
fi
exit "$code"
