"use strict";

squashLive(async (job) => {
  await squashReplace();
  squashNote(`Job ${job.job} has come, with ${job.metrics} ${job.metrics === 1 ? "metric" : "metrics"}.`);
});
