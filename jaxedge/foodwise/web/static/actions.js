// Shows the photo before it is sent. Without this the form works as well.
"use strict";
const field = document.getElementById("photo");
const preview = document.getElementById("preview");
if (field && preview) {
  field.addEventListener("change", () => {
    URL.revokeObjectURL(preview.src);
    const [file] = field.files;
    preview.hidden = !file;
    if (file) preview.src = URL.createObjectURL(file);
  });
}
