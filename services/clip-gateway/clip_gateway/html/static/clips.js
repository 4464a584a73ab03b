// What every page does where scripts run: times become local.

import "./times.js";
