#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
# In the emulated machine (scripts/test-engines-emulated): the host's tests, with the engines that they find here.

status=0
/tests --nocapture --test-threads=1 --exact engines::every_engine_has_a_name_of_its_own || status=$?
/tests --test-threads=1 --skip jobs_on_engines:: "$@" || status=$?
exit $status
