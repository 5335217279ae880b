#!/bin/sh
# Stands in for a worker process: sleeps until it is told to end.
exec sleep 60
