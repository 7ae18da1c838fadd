// The list of runs, updated as jobs arrive.
"use strict";

squashLive(squashReplace);
