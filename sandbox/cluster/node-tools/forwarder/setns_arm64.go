package main

// The syscall package has no name for setns(2) here.
const sysSetns = 268
