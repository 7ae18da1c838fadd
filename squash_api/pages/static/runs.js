// The list of runs, kept up to date as jobs come.
"use strict";

squashLive(squashReplace);
